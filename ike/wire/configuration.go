package wire

import (
	"encoding/binary"
	"strconv"
)

// ConfigType is the type of a configuration payload (RFC 7296, Section 3.15).
type ConfigType uint8

// Configuration types. Zero is reserved and never valid.
const (
	ConfigRequest ConfigType = 1
	ConfigReply   ConfigType = 2
	ConfigSet     ConfigType = 3
	ConfigAck     ConfigType = 4
)

// String returns the RFC's name of the type.
func (t ConfigType) String() string {
	switch t {
	case ConfigRequest:
		return "CFG_REQUEST"
	case ConfigReply:
		return "CFG_REPLY"
	case ConfigSet:
		return "CFG_SET"
	case ConfigAck:
		return "CFG_ACK"
	}
	return "CFG(" + strconv.Itoa(int(t)) + ")"
}

// ConfigAttrType is the type of a configuration attribute (RFC 7296, Section 3.15.1).
type ConfigAttrType uint16

// Configuration attribute types.
const (
	ConfigInternalIP4Address ConfigAttrType = 1
	ConfigInternalIP4Netmask ConfigAttrType = 2
	ConfigInternalIP4DNS     ConfigAttrType = 3
	ConfigInternalIP4NBNS    ConfigAttrType = 4
	ConfigInternalIP4DHCP    ConfigAttrType = 6
	ConfigApplicationVersion ConfigAttrType = 7
	ConfigInternalIP6Address ConfigAttrType = 8
	ConfigInternalIP6DNS     ConfigAttrType = 10
	ConfigInternalIP6DHCP    ConfigAttrType = 12
	ConfigInternalIP4Subnet  ConfigAttrType = 13
	ConfigSupportedAttrs     ConfigAttrType = 14
	ConfigInternalIP6Subnet  ConfigAttrType = 15
	ConfigInternalDNSDomain  ConfigAttrType = 25 // RFC 8598
	ConfigInternalDNSSECTA   ConfigAttrType = 26 // RFC 8598
)

// String returns the registry's name of the type.
func (t ConfigAttrType) String() string {
	switch t {
	case ConfigInternalIP4Address:
		return "INTERNAL_IP4_ADDRESS"
	case ConfigInternalIP4Netmask:
		return "INTERNAL_IP4_NETMASK"
	case ConfigInternalIP4DNS:
		return "INTERNAL_IP4_DNS"
	case ConfigInternalIP4NBNS:
		return "INTERNAL_IP4_NBNS"
	case ConfigInternalIP4DHCP:
		return "INTERNAL_IP4_DHCP"
	case ConfigApplicationVersion:
		return "APPLICATION_VERSION"
	case ConfigInternalIP6Address:
		return "INTERNAL_IP6_ADDRESS"
	case ConfigInternalIP6DNS:
		return "INTERNAL_IP6_DNS"
	case ConfigInternalIP6DHCP:
		return "INTERNAL_IP6_DHCP"
	case ConfigInternalIP4Subnet:
		return "INTERNAL_IP4_SUBNET"
	case ConfigSupportedAttrs:
		return "SUPPORTED_ATTRIBUTES"
	case ConfigInternalIP6Subnet:
		return "INTERNAL_IP6_SUBNET"
	case ConfigInternalDNSDomain:
		return "INTERNAL_DNS_DOMAIN"
	case ConfigInternalDNSSECTA:
		return "INTERNAL_DNSSEC_TA"
	}
	return "attribute(" + strconv.Itoa(int(t)) + ")"
}

// Configuration is the configuration payload (RFC 7296, Section 3.15). The
// lengths of known attributes are not checked here: a bad one is ignored by its
// user, not fatal.
type Configuration struct {
	CType      ConfigType
	Attributes []ConfigAttribute
}

// ConfigAttribute is one attribute of a configuration payload.
type ConfigAttribute struct {
	Type  ConfigAttrType
	Value []byte // empty in a request that asks for any value
}

// Type implements Payload.
func (*Configuration) Type() PayloadType { return PayloadConfiguration }

func parseConfiguration(b []byte) (*Configuration, string) {
	c := cursor{b}
	p := &Configuration{}
	var t uint8
	if !c.u8(&t) || !c.skip(3) {
		return nil, "cut short"
	}
	p.CType = ConfigType(t)
	for !c.empty() {
		var at, n uint16
		var v []byte
		if !c.u16(&at) || !c.u16(&n) || !c.bytes(&v, int(n)) {
			return nil, "attribute cut short"
		}
		if len(p.Attributes) == MaxConfigAttributes {
			return nil, "too many attributes"
		}
		// RFC 7296, Section 3.15.1: the top bit is reserved and ignored.
		p.Attributes = append(p.Attributes, ConfigAttribute{Type: ConfigAttrType(at & 0x7fff), Value: v})
	}
	return p, ""
}

func (p *Configuration) appendBody(dst []byte) []byte {
	dst = append(dst, byte(p.CType), 0, 0, 0)
	for _, a := range p.Attributes {
		if len(a.Value) > 65535 {
			return nil
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(a.Type)&0x7fff)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.Value)))
		dst = append(dst, a.Value...)
	}
	return dst
}
