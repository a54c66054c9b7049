package tuntest

import (
	"errors"
	"os"
	"sync"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// offloadRoom is what a device on Linux needs, and overwrites, in front of each packet it
// is given to write: its virtio header. In-memory devices are as strict.
const offloadRoom = 10

// A Device is one end of a TUN device in memory: what is written to it is read from the
// other end. Writing to a full one loses the packet, as in a kernel.
type Device struct {
	name   string
	mtu    int
	batch  int
	in     *queue
	peer   *Device
	events chan wgtun.Event
	once   sync.Once
}

var _ wgtun.Device = (*Device)(nil)

// NewDevices returns the two ends of a TUN device. Zero means an MTU of 1500, a batch of 1.
func NewDevices(mtu, batch int) (a, b *Device) {
	if mtu <= 0 {
		mtu = 1500
	}
	batch = max(1, batch)
	a = &Device{name: "mem0", mtu: mtu, batch: batch, in: newQueue(), events: make(chan wgtun.Event, 1)}
	b = &Device{name: "mem1", mtu: mtu, batch: batch, in: newQueue(), events: make(chan wgtun.Event, 1)}
	a.peer, b.peer = b, a
	a.events <- wgtun.EventUp
	b.events <- wgtun.EventUp
	return a, b
}

// File returns nil: there is none.
func (d *Device) File() *os.File { return nil }

// Name returns the name of this end.
func (d *Device) Name() (string, error) { return d.name, nil }

// MTU returns the MTU, which is not enforced on Read.
func (d *Device) MTU() (int, error) { return d.mtu, nil }

// BatchSize returns the largest number of packets that one Read returns.
func (d *Device) BatchSize() int { return d.batch }

// Events returns the channel of events; it is closed by Close.
func (d *Device) Events() <-chan wgtun.Event { return d.events }

// Read waits for packets and copies them to bufs[i][offset:]. A packet that does not fit is lost.
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	if len(bufs) == 0 || len(sizes) < len(bufs) {
		return 0, errors.New("tuntest: Read needs buffers and a size for each")
	}
	for n == 0 {
		err := d.in.take(func(p *datagram) bool {
			if offset <= len(bufs[n]) && len(bufs[n])-offset >= len(p.data) {
				sizes[n] = copy(bufs[n][offset:], p.data)
				n++
			}
			return n < min(len(bufs), d.batch)
		})
		if err != nil {
			return 0, os.ErrClosed
		}
	}
	return n, nil
}

// Write sends bufs[i][offset:] to the other end. Like a device with offloads, it overwrites
// the 10 bytes in front of each, and refuses an offset that leaves no room for them.
func (d *Device) Write(bufs [][]byte, offset int) (int, error) {
	select {
	case <-d.in.done:
		return 0, os.ErrClosed
	default:
	}
	if offset < offloadRoom {
		return 0, errors.New("tuntest: no room for the offload header in front of a packet")
	}
	for i, b := range bufs {
		if len(b) < offset {
			return i, errors.New("tuntest: packet shorter than the offset")
		}
		if len(b)-offset > d.mtu {
			return i, errors.New("tuntest: packet exceeds the MTU")
		}
		d.peer.in.put(datagram{data: b[offset:]})
		for j := offset - offloadRoom; j < offset; j++ {
			b[j] = poison
		}
	}
	return len(bufs), nil
}

// Close closes this end; the other one stays open.
func (d *Device) Close() error {
	d.in.close()
	d.once.Do(func() { close(d.events) })
	return nil
}
