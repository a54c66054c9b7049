//go:build !linux

package raw

import (
	"errors"

	"github.com/btns-go/btns/tun"
)

// A socket does not exist on this system.
type socket struct{}

func openSockets(*Config) ([]*socket, error) { return nil, errors.ErrUnsupported }

func (s *socket) fits(tun.Path) bool                    { return false }
func (s *socket) send(*tun.Packet) error                { return tun.ErrPath }
func (s *socket) receive(*tun.Packet) (tun.Drop, error) { return tun.DropUnset, errors.ErrUnsupported }
func (s *socket) close() error                          { return nil }
