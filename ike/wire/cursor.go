package wire

import "encoding/binary"

// cursor reads a byte slice from the front. Reads report whether the octets
// were there and are chained with &&; after a failed read the cursor is spent.
type cursor struct{ b []byte }

func (c *cursor) u8(v *uint8) bool {
	if len(c.b) < 1 {
		return false
	}
	*v = c.b[0]
	c.b = c.b[1:]
	return true
}

func (c *cursor) u16(v *uint16) bool {
	if len(c.b) < 2 {
		return false
	}
	*v = binary.BigEndian.Uint16(c.b)
	c.b = c.b[2:]
	return true
}

func (c *cursor) u32(v *uint32) bool {
	if len(c.b) < 4 {
		return false
	}
	*v = binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return true
}

func (c *cursor) skip(n int) bool {
	if len(c.b) < n {
		return false
	}
	c.b = c.b[n:]
	return true
}

// bytes takes n octets. The slice is capped: appending to it never writes into
// its neighbour.
func (c *cursor) bytes(v *[]byte, n int) bool {
	if n < 0 || len(c.b) < n {
		return false
	}
	*v = c.b[:n:n]
	c.b = c.b[n:]
	return true
}

// rest takes everything that is left.
func (c *cursor) rest() []byte {
	b := c.b[:len(c.b):len(c.b)]
	c.b = nil
	return b
}

func (c *cursor) empty() bool { return len(c.b) == 0 }
