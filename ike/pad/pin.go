package pad

import "fmt"

// PinStore remembers the key that was seen first under a name: leap of faith (RFC 5387,
// Section 5.7). It must be safe for concurrent use. A store that cannot answer must fail: an
// error never means "unpinned".
type PinStore interface {
	// LoadOrStore is an atomic compare-and-set: it returns the key pinned under the name, or
	// pins spki if there is none. loaded tells which; pinned is the key that holds now. It never
	// overwrites.
	LoadOrStore(name string, spki []byte) (pinned []byte, loaded bool, err error)
	// Load returns the key pinned under the name, nil without one.
	Load(name string) (spki []byte, err error)
	// Delete forgets a name, on an operator's word only.
	Delete(name string) error
}

// PinMismatchError means that another key is pinned under the name. Nothing was overwritten.
type PinMismatchError struct {
	Name           string
	Pinned, Sought string // fingerprints
}

// Error names both keys.
func (e *PinMismatchError) Error() string {
	return fmt.Sprintf("pad: %s is pinned to key %s, but the peer has proven %s", shown(e.Name), e.Pinned, e.Sought)
}

// CheckPin compares the key that a peer has proven with the one pinned under the name that was
// dialled, and pins it at first contact. It returns a *PinMismatchError for another key.
func CheckPin(store PinStore, name string, spki []byte) (first bool, err error) {
	if name == "" || len(spki) == 0 {
		return false, fmt.Errorf("pad: nothing to pin: name %s, key of %d bytes", shown(name), len(spki))
	}
	pinned, loaded, err := store.LoadOrStore(name, spki)
	if err != nil {
		return false, fmt.Errorf("pad: pin of %s: %w", shown(name), err)
	}
	if string(pinned) != string(spki) {
		return false, &PinMismatchError{name, Fingerprint(pinned), Fingerprint(spki)}
	}
	return !loaded, nil
}
