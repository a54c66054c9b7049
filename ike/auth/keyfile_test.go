package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

type equaler interface{ Equal(crypto.PrivateKey) bool }

func TestKeyFileRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []Kind{KindEd25519, KindECDSAP256, KindECDSAP384} {
		key := generate(t, kind)
		priv, pub := filepath.Join(dir, kind.String()+".pem"), filepath.Join(dir, kind.String()+".pub")
		if err := SavePrivateKey(priv, key); err != nil {
			t.Fatal(err)
		}
		if err := SavePublicKey(pub, SPKI(key.Public())); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		back, err := LoadPrivateKey(priv, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !back.(equaler).Equal(key) || log.Len() != 0 {
			t.Errorf("%v came back different, or with a warning: %s", kind, &log)
		}
		spki, err := LoadPublicKey(pub)
		if err != nil || !bytes.Equal(spki, SPKI(key.Public())) {
			t.Errorf("%v: %x, %v", kind, spki, err)
		}

		before, _ := os.ReadFile(priv)
		for _, path := range []string{priv, pub} {
			err := SavePrivateKey(path, generate(t, kind))
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("an existing file: %v", err)
			}
		}
		if after, _ := os.ReadFile(priv); !bytes.Equal(before, after) {
			t.Error("the file was overwritten")
		}
	}
}

func TestKeyFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := SavePrivateKey(path, generate(t, KindEd25519)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("written with mode %v, %v", info.Mode(), err)
	}
	for mode, warns := range map[fs.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if _, err := LoadPrivateKey(path, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Error(err)
		}
		if (log.Len() != 0) != warns {
			t.Errorf("mode %v: logged %q", mode, &log)
		}
		if _, err := LoadPrivateKey(path, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestKeyFileErrors wants one sentence that names the file and what is wrong with it.
func TestKeyFileErrors(t *testing.T) {
	dir := t.TempDir()
	ed := generate(t, KindEd25519)
	private, err := MarshalPrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	public := MarshalPublicKey(SPKI(ed.Public()))
	rsaPriv, err := MarshalPrivateKey(testRSA(t))
	if err != nil {
		t.Fatal(err)
	}
	block := func(name string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: name, Bytes: b}) }
	damaged := bytes.Clone(private)
	damaged[len("-----BEGIN PRIVATE KEY-----\n")] = 'A'
	weak := block("PUBLIC KEY", vectors(t, "rfc7670.txt")["rsa1024.spki"])

	for _, tc := range []struct {
		name          string
		content       []byte
		asPriv, asPub string // a part of the error; empty = it is accepted
	}{
		{"private", private, "", "private key"},
		{"public", public, "public key; the private one is needed", ""},
		{"empty", nil, "no PEM", "no PEM"},
		{"text", []byte("hello"), "no PEM", "no PEM"},
		{"two", append(bytes.Clone(private), private...), "more in it", "more in it"},
		{"trailer", append(bytes.Clone(private), "tail"...), "more in it", "more in it"},
		{"newlines", append(bytes.Clone(private), "\n\n"...), "", "private key"},
		{"damaged", damaged, "damaged", "private key"},
		{"rsa", rsaPriv, "not Ed25519 or ECDSA", "private key"},
		{"weak", weak, "public key", "1024 bits"},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", nil), "is encrypted", "ENCRYPTED"},
		{"openssh", block("OPENSSH PRIVATE KEY", nil), "OpenSSH", "OPENSSH"},
		{"certificate", block("CERTIFICATE", nil), "CERTIFICATE", "CERTIFICATE"},
		{"huge", bytes.Repeat([]byte("x"), MaxKeyFile+1), "too long", "too long"},
	} {
		path := filepath.Join(dir, tc.name)
		if err := os.WriteFile(path, tc.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, errPriv := LoadPrivateKey(path, nil)
		checkKeyError(t, path, errPriv, tc.asPriv)
		_, errPub := LoadPublicKey(path)
		checkKeyError(t, path, errPub, tc.asPub)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"): "no such file",
		dir:                          "directory",
	} {
		_, err := LoadPrivateKey(path, nil)
		checkKeyError(t, path, err, want)
		_, err = LoadPublicKey(path)
		checkKeyError(t, path, err, want)
	}
	if _, err := LoadPublicKey(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	err = SavePrivateKey(filepath.Join(dir, "no", "such", "folder"), ed)
	checkKeyError(t, "folder", err, "no such file")
}

func checkKeyError(t *testing.T, path string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", path, err)
	case want == "":
	case err == nil:
		t.Errorf("%s is accepted; want an error with %q", path, want)
	case !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "auth:") != 1 ||
		strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "\n"):
		t.Errorf("%s: %q, want one sentence with %q", path, err, want)
	}
}

// TestKeyFileSEC1 reads what openssl ecparam -genkey and strongSwan's pki write.
func TestKeyFileSEC1(t *testing.T) {
	key := generate(t, KindECDSAP384).(*ecdsa.PrivateKey)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte("\x06\x05\x2b\x81\x04\x00\x22")})
	for _, data := range [][]byte{sec1, append(params, sec1...)} {
		back, err := ParsePrivateKey(data)
		if err != nil {
			t.Fatal(err)
		}
		if !back.(equaler).Equal(key) {
			t.Error("it came back different")
		}
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.MarshalECPrivateKey(p521)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})); err == nil {
		t.Error("a P-521 key is accepted")
	}
}
