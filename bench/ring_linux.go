package bench

import "syscall"

const (
	hugePage     = 2 << 20
	adviseHugely = 14 // MADV_HUGEPAGE
)

// newRing returns n octets for a ring of packets and how to give them back. They
// lie in huge pages if the kernel has some: a ring that is larger than the reach of
// the TLB else measures page walks, which meet whoever touches a page first, and
// cost most in a virtual machine.
func newRing(n int) (ring []byte, free func()) {
	b, err := syscall.Mmap(-1, 0, (n+2*hugePage-1)/hugePage*hugePage, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return make([]byte, n), func() {}
	}
	_ = syscall.Madvise(b, adviseHugely) // advice: nothing breaks without
	return b[:n:n], func() { _ = syscall.Munmap(b) }
}
