//go:build linux

package interop_test

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
)

var update = flag.Bool("update", false, "keep the conversations with charon as the transcripts that package iketest replays")

const transcripts = "../../../ike/iketest/testdata/transcripts"

// TestTranscripts has the bare machine, without engine and data path, talk to charon, and
// replays what was said: the same datagrams must give the same answers again. With -update
// they become the transcripts that every go test ./ike/iketest replays, charon or not.
func TestTranscripts(t *testing.T) {
	const (
		rekeysChild = "rekey_time = 1s\n rand_time = 0s\n life_time = 30s"
		rekeysIKE   = "rekey_time = 1s\n rand_time = 0s\n over_time = 30s"
		pfs         = "aes256gcm16-x25519"
		from500     = "local_port = 500\n remote_port = 500"
	)
	var (
		initiates = func(r *recording) { r.tell("initiate"); r.await("a child SA", r.hasChild) }
		responds  = func(r *recording) { r.initiate(); r.await("a child SA", r.hasChild) }
		ends      = func(r *recording) { r.tell("delete ike"); r.await("the end", r.over); r.daemon.AwaitSAs("") }
		ended     = func(r *recording) { r.terminate(); r.await("the end", r.over) }
		another   = func(r *recording) { r.replaced(func() { r.tell("rekey child") }) }
		theirs    = func(r *recording) { r.replaced(func() {}) }
		rekeys    = func(r *recording) { r.succeeded(func() { r.tell("rekey ike") }) }
		rekeyed   = func(r *recording) { r.succeeded(func() {}) }
		asks      = func(r *recording) { r.answered(func() { r.tell("check liveness") }) }
		asked     = func(r *recording) { r.answered(func() {}) }
		second    = func(r *recording) {
			r.tell("create child")
			r.await("two child SAs", func() bool { return r.children() == 2 })
		}
		one = func(r *recording) {
			r.tell("delete child")
			r.await("one child SA", func() bool { return r.children() == 1 })
		}
		fails     = func(r *recording) { r.tell("initiate"); r.await("the end", r.failed) }
		refuses   = func(r *recording) { r.initiate(); r.await("the end", r.failed) }
		childless = func(r *recording) { r.tell("initiate childless"); r.await("an IKE SA", r.stands) }
		first     = func(r *recording) { r.tell("create child"); r.await("a child SA", r.hasChild) }
		without   = func(r *recording) { r.tell("initiate"); r.await("a child SA refused", r.childRefused) }
	)
	responder := setup{responder: true}
	bare := setup{auth: "ed25519"}
	for _, x := range []struct {
		name  string // of the file
		title string
		setup setup
		host  iketest.Setup
		do    []func(r *recording)
	}{
		{"psk-initiator", "we initiate and delete", setup{}, iketest.Setup{}, []func(*recording){initiates, ends}},
		{"psk-responder", "charon initiates and deletes", responder, iketest.Setup{}, []func(*recording){responds, ended}},
		{"ed25519-initiator", "bare Ed25519 keys, we initiate", bare, iketest.Setup{}, []func(*recording){initiates, ended}},
		{"ed25519-responder", "bare Ed25519 keys, charon initiates", bare.responds(), iketest.Setup{}, []func(*recording){responds, ends}},
		{"ecdsa-peer", "a bare ECDSA key at charon's end", setup{auth: "ecdsa"}, iketest.Setup{}, []func(*recording){initiates, ends}},
		{"cbc-initiator", "AES-CBC, HMAC and MODP-2048, we initiate", setup{ike: "aes128-sha256-modp2048", esp: "aes128-sha256"},
			iketest.Setup{}, []func(*recording){initiates, another, rekeys, ends}},
		{"cbc-responder", "AES-CBC, HMAC and ECP-384, charon initiates", setup{ike: "aes256-sha384-ecp384", esp: "aes256-sha512", responder: true},
			iketest.Setup{}, []func(*recording){responds, another, rekeys, ended}},
		{"chacha-initiator", "ChaCha20-Poly1305 and ECP-256, we initiate", setup{ike: "chacha20poly1305-prfsha512-ecp256", esp: "chacha20poly1305"},
			iketest.Setup{}, []func(*recording){initiates, asks, ends}},
		{"float-initiator", "from port 500 to 4500, we initiate", setup{swanPort: from500},
			iketest.Setup{Local: interop.NearIKE, Remote: interop.FarIKE}, []func(*recording){initiates, asks, ends}},
		{"float-responder", "from port 500 to 4500, charon initiates", setup{swanPort: from500, responder: true},
			iketest.Setup{Local: interop.NearIKE, Remote: interop.FarIKE}, []func(*recording){responds, asks, ended}},
		{"group-initiator", "charon wants another group than our first", setup{ike: "aes256gcm16-prfsha256-ecp256-x25519", swanIKE: ikeX25519},
			iketest.Setup{}, []func(*recording){initiates, ends}},
		{"group-responder", "we want another group than charon's first", setup{swanIKE: "aes256gcm16-prfsha256-ecp256-x25519", responder: true},
			iketest.Setup{}, []func(*recording){responds, ended}},
		{"cookie-initiator", "charon wants a cookie", setup{swanMore: "cookie_threshold = 0"}, iketest.Setup{}, []func(*recording){initiates, ends}},
		{"cookie-responder", "we want a cookie", responder, iketest.Setup{Cookies: true}, []func(*recording){responds, ended}},
		{"fragments", "both send fragments", setup{auth: "ecdsa", swanMore: "fragment_size = 300"}, iketest.Setup{FragmentSize: 300},
			[]func(*recording){initiates, another, ends}},
		{"childless", "an IKE SA without child SA, then one", setup{swanConn: "childless = allow"}, iketest.Setup{Childless: ike.ChildlessForce},
			[]func(*recording){childless, first, ends}},
		{"second-child", "a second child SA, the first deleted", setup{}, iketest.Setup{}, []func(*recording){initiates, second, one, ends}},
		{"rekey-child", "we rekey the child SA, three times", setup{}, iketest.Setup{}, []func(*recording){initiates, another, another, another, ends}},
		{"rekey-child-pfs", "we rekey the child SA with a key exchange", setup{esp: pfs}, iketest.Setup{RekeyESP: pfs}, []func(*recording){initiates, another, ended}},
		{"rekeyed-child", "charon rekeys the child SA", setup{swanChild: rekeysChild}, iketest.Setup{}, []func(*recording){initiates, theirs, theirs, ends}},
		{"rekeyed-child-pfs", "charon rekeys the child SA with a key exchange", setup{swanChild: rekeysChild, esp: pfs}, iketest.Setup{},
			[]func(*recording){initiates, theirs, ends}},
		{"rekey-ike", "we rekey the IKE SA, and the child SA after it", setup{}, iketest.Setup{}, []func(*recording){initiates, rekeys, another, rekeys, ends}},
		{"rekeyed-ike", "charon rekeys the IKE SA, we the child SA after it", setup{swanConn: rekeysIKE, responder: true}, iketest.Setup{},
			[]func(*recording){responds, rekeyed, another, ended}},
		{"liveness", "charon asks whether we live", setup{swanConn: "dpd_delay = 1s"}, iketest.Setup{}, []func(*recording){initiates, asked, ends}},
		{"wrong-secret-initiator", "charon has another secret, we initiate", setup{swanPSK: "another secret"}, iketest.Setup{}, []func(*recording){fails}},
		{"wrong-secret-responder", "charon has another secret and initiates", setup{swanPSK: "another secret", responder: true}, iketest.Setup{}, []func(*recording){refuses}},
		{"no-proposal-child", "charon takes no ESP proposal of ours", setup{swanESP: espChaCha}, iketest.Setup{}, []func(*recording){without, ends}},
		{"no-selectors", "charon takes no selector of ours", setup{swanFar: "10.9.0.0/24"}, iketest.Setup{}, []func(*recording){without, ends}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			row := report.Row(t, peer, "the bare machine: "+x.title, x.setup.role(), x.setup.suite())
			r := record(t, x.title, x.setup, x.host)
			for _, do := range x.do {
				do(r)
			}
			said := r.close()
			again := said.Replay()
			if why := said.Differs(again.Transcript()); why != "" {
				t.Errorf("replayed, it differs: %s", why)
			}
			row.Note("%d lines, and the same again when replayed", len(said.Lines))
			if *update && !t.Failed() {
				interop.WriteFile(t, filepath.Join(transcripts, x.name+".txt"), said.String())
			}
		})
	}
}

func (s setup) responds() setup { s.responder = true; return s }
