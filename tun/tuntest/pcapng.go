package tuntest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// The parts of the pcapng format (draft-ietf-opsawg-pcapng) that a Recorder writes: one
// section, one interface of raw IP packets, enhanced packet blocks with nanoseconds.
const (
	blockSection   = 0x0A0D0D0A
	blockInterface = 1
	blockPacket    = 6
	byteOrderMagic = 0x1A2B3C4D
	linkRaw        = 101     // LINKTYPE_RAW: an IPv4 or IPv6 packet
	maxBlock       = 1 << 20 // no block of ours is larger
	packetFixed    = 28      // type, length, interface, time, two lengths
)

// appendFileHeader appends the section header and the interface description.
func appendFileHeader(b []byte) []byte {
	le := binary.LittleEndian
	const app = "btns relay\x00\x00"
	b = le.AppendUint32(b, blockSection)
	b = le.AppendUint32(b, 48)
	b = le.AppendUint32(b, byteOrderMagic)
	b = le.AppendUint16(b, 1) // version 1.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, ^uint64(0)) // section length unknown
	b = le.AppendUint16(b, 4)          // shb_userappl
	b = le.AppendUint16(b, uint16(len(app)-2))
	b = append(b, app...)
	b = le.AppendUint32(b, 0) // opt_endofopt
	b = le.AppendUint32(b, 48)

	b = le.AppendUint32(b, blockInterface)
	b = le.AppendUint32(b, 32)
	b = le.AppendUint16(b, linkRaw)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, 0) // no limit to a packet's length
	b = le.AppendUint16(b, 9) // if_tsresol: nanoseconds
	b = le.AppendUint16(b, 1)
	b = append(b, 9, 0, 0, 0)
	b = le.AppendUint32(b, 0) // opt_endofopt
	return le.AppendUint32(b, 32)
}

// blockSize returns the length of the block for a packet of n bytes.
func blockSize(n int) int { return packetFixed + (n+3)&^3 + 4 }

// appendBlock appends the packet block for a datagram: IP header, UDP header unless the
// ports are 0, payload.
func appendBlock(b []byte, now time.Time, src, dst netip.AddrPort, payload []byte) []byte {
	le := binary.LittleEndian
	n := headerSize(src, dst) + len(payload)
	ts := uint64(now.UnixNano())
	b = le.AppendUint32(b, blockPacket)
	b = le.AppendUint32(b, uint32(blockSize(n)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(ts>>32))
	b = le.AppendUint32(b, uint32(ts))
	b = le.AppendUint32(b, uint32(n))
	b = le.AppendUint32(b, uint32(n))
	b = appendHeaders(b, src, dst, payload)
	b = append(b, payload...)
	for ; n%4 != 0; n++ {
		b = append(b, 0)
	}
	return le.AppendUint32(b, uint32(blockSize(n)))
}

func headerSize(src, dst netip.AddrPort) int {
	n := 40
	if dst.Addr().Is4() && src.Addr().Is4() {
		n = 20
	}
	if src.Port() != 0 || dst.Port() != 0 {
		n += 8
	}
	return n
}

// appendHeaders appends the headers that the datagram had, as far as is known.
func appendHeaders(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	be := binary.BigEndian
	proto, upper := byte(50), len(payload)
	if src.Port() != 0 || dst.Port() != 0 {
		proto, upper = 17, upper+8
	}
	start := len(b)
	is4 := dst.Addr().Is4() && src.Addr().Is4()
	var pseudo []byte
	if is4 {
		s, d := src.Addr().As4(), dst.Addr().As4()
		b = append(b, 0x45, 0)
		b = be.AppendUint16(b, uint16(20+upper))
		b = append(b, 0, 0, 0, 0, 64, proto, 0, 0)
		b = append(append(b, s[:]...), d[:]...)
		be.PutUint16(b[start+10:], ^fold(sum(0, b[start:])))
	} else {
		s, d := src.Addr().As16(), dst.Addr().As16()
		b = append(b, 0x60, 0, 0, 0)
		b = be.AppendUint16(b, uint16(upper))
		b = append(b, proto, 64)
		b = append(append(b, s[:]...), d[:]...)
		pseudo = b[start+8:]
	}
	if proto != 17 {
		return b
	}
	at := len(b)
	b = be.AppendUint16(b, src.Port())
	b = be.AppendUint16(b, dst.Port())
	b = be.AppendUint16(b, uint16(upper))
	b = append(b, 0, 0)
	if !is4 {
		// IPv4 may leave it at 0; IPv6 may not (RFC 8200, Section 8.1).
		c := ^fold(sum(sum(uint32(upper)+17, pseudo), b[at:]) + sum(0, payload))
		if c == 0 {
			c = 0xFFFF
		}
		be.PutUint16(b[at+6:], c)
	}
	return b
}

// sum adds b to an unfolded Internet checksum; b has at most 64 KiB.
func sum(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
		s = s&0xFFFF + s>>16
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xFFFF {
		s = s&0xFFFF + s>>16
	}
	return uint16(s)
}

// errFormat means that a file is not one of ours.
var errFormat = errors.New("tuntest: not a pcapng file of the relay")

// SearchFile reads a pcapng file as written by Recorder.WriteTo and returns the number of
// packets in it and how many of them contain needle, headers included.
func SearchFile(r io.Reader, needle []byte) (packets, hits int, err error) {
	br := bufio.NewReaderSize(r, 1<<16)
	var buf []byte
	for first := true; ; first = false {
		buf, err = readBlock(br, buf)
		if errors.Is(err, io.EOF) && !first {
			return packets, hits, nil
		}
		if err != nil {
			return packets, hits, fmt.Errorf("tuntest: capture file, block %d: %w", packets, err)
		}
		typ := binary.LittleEndian.Uint32(buf)
		if first != (typ == blockSection) {
			return packets, hits, errFormat
		}
		switch typ {
		case blockSection:
			if len(buf) < 28 || binary.LittleEndian.Uint32(buf[8:]) != byteOrderMagic {
				return packets, hits, errFormat
			}
		case blockPacket:
			data, ok := packetData(buf)
			if !ok {
				return packets, hits, errFormat
			}
			packets++
			if bytes.Contains(data, needle) {
				hits++
			}
		}
	}
}

// readBlock reads one block into buf, which it may replace. It returns io.EOF only between blocks.
func readBlock(r *bufio.Reader, buf []byte) ([]byte, error) {
	head, err := r.Peek(8)
	if err != nil {
		if len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return buf, err
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n < 12 || n > maxBlock || n%4 != 0 {
		return buf, errFormat
	}
	if cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return buf, io.ErrUnexpectedEOF
	}
	if binary.LittleEndian.Uint32(buf[n-4:]) != n {
		return buf, errFormat
	}
	return buf, nil
}

// packetData returns the packet in a packet block.
func packetData(block []byte) ([]byte, bool) {
	if len(block) < packetFixed+4 {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(block[20:])
	if n > uint32(len(block)-packetFixed-4) {
		return nil, false
	}
	return block[packetFixed : packetFixed+n], true
}
