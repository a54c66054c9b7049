// Package pins remembers the key that was first seen under a name: the store behind
// leap of faith (RFC 5387, Section 5.7) that package pad declares.
//
// A Store is one file. What it answers is on disk before it answers; a store that cannot
// be read, is damaged, or is held by another process is an error and never an empty
// store, so that "unpinned" is never a guess. Older copies put back in its place can't be
// told from the file they replace.
//
// Concurrency: a Store is safe for concurrent use; two processes cannot open one file at
// once. Ownership: arguments are copied, results are the caller's. Limits: maxName and
// maxKey bytes, maxPins names.
package pins

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/btns-go/btns/ike/pad"
)

const (
	maxName = 253     // of a domain name
	maxKey  = 4096    // of a SubjectPublicKeyInfo
	maxPins = 1 << 20 // names; beyond it somebody else chooses them

	// lockWait is how long Open waits for another process to let go of the file.
	lockWait = time.Second
)

// ErrFull means that no further name can be pinned.
var ErrFull = errors.New("pins: store full")

// ErrClosed is returned after Close. It matches net.ErrClosed.
var ErrClosed = fmt.Errorf("pins: store closed: %w", net.ErrClosed)

// A Store is a file of pins.
type Store struct{ db *bbolt.DB }

var _ pad.PinStore = (*Store)(nil)

// Open opens the store in an existing file, which must be its owner's alone.
func Open(path string) (*Store, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	if fi.Size() == 0 {
		// The database would make a fresh one of it: every peer would be new again.
		return nil, fmt.Errorf("pins: %s is empty: remove it and create a new store to start over", path)
	}
	return open(path)
}

// Create makes a new store; a file that exists is fs.ErrExist.
func Create(path string) (*Store, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		return nil, fmt.Errorf("pins: %w", err)
	}
	return open(path)
}

func open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return nil, fmt.Errorf("pins: %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pins: %s: %w", path, errors.Join(err, db.Close()))
	}
	return &Store{db}, nil
}

func bucket() []byte { return []byte("pins") }

// LoadOrStore implements pad.PinStore.
func (s *Store) LoadOrStore(name string, spki []byte) (pinned []byte, loaded bool, err error) {
	if err := check(name); err != nil {
		return nil, false, err
	}
	if len(spki) == 0 || len(spki) > maxKey {
		return nil, false, fmt.Errorf("pins: %s: a key of %d bytes", name, len(spki))
	}
	if pinned, err = s.Load(name); err != nil || pinned != nil {
		return pinned, pinned != nil, err // what is there needs no write
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket())
		if pinned = bytes.Clone(b.Get([]byte(name))); pinned != nil {
			loaded = true
			return nil
		}
		if b.Stats().KeyN >= maxPins {
			return ErrFull
		}
		pinned = bytes.Clone(spki)
		return b.Put([]byte(name), pinned)
	})
	if err != nil {
		return nil, false, failed(name, err)
	}
	return pinned, loaded, nil
}

// Load implements pad.PinStore.
func (s *Store) Load(name string) (spki []byte, err error) {
	if err := check(name); err != nil {
		return nil, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		spki = bytes.Clone(tx.Bucket(bucket()).Get([]byte(name)))
		return nil
	})
	if err != nil {
		return nil, failed(name, err)
	}
	return spki, nil
}

// Delete implements pad.PinStore.
func (s *Store) Delete(name string) error {
	if err := check(name); err != nil {
		return err
	}
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket()).Delete([]byte(name)) })
	if err != nil {
		return failed(name, err)
	}
	return nil
}

// Close lets go of the file.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	return nil
}

func check(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("pins: a name of %d bytes", len(name))
	}
	return nil
}

func failed(name string, err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return fmt.Errorf("pins: %s: %w", name, err)
}
