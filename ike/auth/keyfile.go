package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
)

const (
	pemPrivate = "PRIVATE KEY"    // PKCS #8
	pemPublic  = "PUBLIC KEY"     // SubjectPublicKeyInfo
	pemEC      = "EC PRIVATE KEY" // SEC 1, as openssl and pki write it
)

// GenerateKey makes a private key.
func GenerateKey(kind Kind) (crypto.Signer, error) {
	switch kind {
	case KindEd25519:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	case KindECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case KindECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case KindNone, KindRSA:
	}
	return nil, fmt.Errorf("auth: keys of type %v are not made here", kind)
}

// ParsePrivateKey reads one private key in PEM: PKCS #8 with Ed25519 or ECDSA on P-256 or P-384,
// or SEC 1 with those curves.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case pemPrivate:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemEC:
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pemPublic:
		return nil, errors.New("auth: this is a public key; the private one is needed")
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("auth: the private key is encrypted; store it decrypted and readable by its owner only")
	case "OPENSSH PRIVATE KEY":
		return nil, errors.New("auth: this is an OpenSSH key; a PKCS #8 one is needed")
	default:
		return nil, fmt.Errorf("auth: a PEM block %q where %q is needed", block.Type, pemPrivate)
	}
	if err != nil {
		return nil, errors.New("auth: the private key is damaged or of a type that is not known")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("auth: the private key cannot sign")
	}
	switch kind := KindOf(signer.Public()); kind {
	case KindEd25519, KindECDSAP256, KindECDSAP384:
		return signer, nil
	case KindNone, KindRSA:
	}
	return nil, errors.New("auth: the private key is not Ed25519 or ECDSA on P-256 or P-384")
}

// MarshalPrivateKey returns a private key as PKCS #8 in PEM.
func MarshalPrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// ParsePublicKey reads one public key in PEM (SubjectPublicKeyInfo) and returns it as ParseSPKI
// accepts it, in DER.
func ParsePublicKey(data []byte) (spki []byte, err error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, err
	}
	switch block.Type {
	case pemPublic:
	case pemPrivate, pemEC:
		return nil, errors.New("auth: this is a private key; only its public half belongs here")
	default:
		return nil, fmt.Errorf("auth: a PEM block %q where %q is needed", block.Type, pemPublic)
	}
	if _, err := ParseSPKI(block.Bytes); err != nil {
		return nil, err
	}
	return block.Bytes, nil
}

// MarshalPublicKey returns a SubjectPublicKeyInfo in PEM.
func MarshalPublicKey(spki []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: spki})
}

// onePEM returns the only PEM block of a file.
func onePEM(data []byte) (*pem.Block, error) {
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey writes it first
		block, rest = pem.Decode(rest)
	}
	switch {
	case block == nil:
		return nil, errors.New("auth: no PEM key in it")
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, errors.New("auth: more in it than one PEM key")
	}
	return block, nil
}

// LoadPrivateKey reads a private key from a PEM file (see [ParsePrivateKey]). If others than its
// owner may read the file that is logged as a warning; log may be nil.
func LoadPrivateKey(path string, log *slog.Logger) (crypto.Signer, error) {
	data, mode, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := ParsePrivateKey(data)
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: err}
	}
	if log != nil && readableByOthers(mode) {
		log.Warn("private key file is readable by others than its owner", "file", path, "mode", mode.Perm().String())
	}
	return key, nil
}

// LoadPublicKey reads a public key from a PEM file (see [ParsePublicKey]), as DER.
func LoadPublicKey(path string) (spki []byte, err error) {
	data, _, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	if spki, err = ParsePublicKey(data); err != nil {
		return nil, &KeyFileError{Path: path, Err: err}
	}
	return spki, nil
}

// SavePrivateKey writes a new PEM file that only its owner may read. A file that exists is never
// overwritten: the error is fs.ErrExist.
func SavePrivateKey(path string, key crypto.Signer) error {
	data, err := MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(data)
	return writeNew(path, data, 0o600)
}

// SavePublicKey writes a new PEM file with a SubjectPublicKeyInfo that everybody may read. A file
// that exists is never overwritten: the error is fs.ErrExist.
func SavePublicKey(path string, spki []byte) error {
	return writeNew(path, MarshalPublicKey(spki), 0o644)
}

// KeyFileError is a key file that could not be read, used or written.
type KeyFileError struct {
	Path string
	Err  error
}

// Error is one sentence for the operator.
func (e *KeyFileError) Error() string {
	cause := e.Err
	var pe *fs.PathError
	if errors.As(cause, &pe) {
		cause = pe.Err // the path is named once
	}
	text := cause.Error()
	if len(text) > 6 && text[:6] == "auth: " {
		text = text[6:]
	}
	return fmt.Sprintf("auth: key file %s: %s", e.Path, text)
}

// Unwrap returns the cause.
func (e *KeyFileError) Unwrap() error { return e.Err }

func readKeyFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, &KeyFileError{Path: path, Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("it is a directory")
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(f, MaxKeyFile+1))
	}
	if err == nil && len(data) > MaxKeyFile {
		err = errors.New("too long for a key")
	}
	if err != nil {
		clear(data)
		return nil, 0, &KeyFileError{Path: path, Err: err}
	}
	return data, info.Mode(), nil
}

func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return &KeyFileError{Path: path, Err: err}
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path) // half a key is none
		return &KeyFileError{Path: path, Err: err}
	}
	return nil
}
