package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tun/tuntest"
)

// proposing has a connection's child SAs made of proposals.
func proposing(t testing.TB, esp ...string) func(c *Conn) {
	t.Helper()
	ps, err := suite.ESPProposals(esp...)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Conn) { c.Children[0].ESP = ps }
}

// The ends prefer different suites. Rekeying, whoever begins it, leaves a child SA with the
// suite that it has (RFC 7296, Section 2.8), so that what is latched to it goes on.
func TestRekeyKeepsTheSuite(t *testing.T) {
	const aes, chacha = "aes256gcm16", "chacha20poly1305"
	for name, pfs := range map[string]string{"as they are": "", "with a key exchange": "-x25519"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := tuntest.NewNet(tuntest.Faults{})
			a, b := known(t, n)
			eb := b.start(t, proposing(t, chacha+pfs, aes+pfs))
			echo(t, eb)
			ea := a.start(t, proposing(t, aes+pfs, chacha+pfs))
			wide, _ := dial(t, ea, b.addr)
			roundTrip(t, wide, []byte("before"))
			conns := map[*netstack.TCPConn]*datapath.Socket{}
			for _, s := range []string{aes, chacha} {
				c, sock := dialWith(t, ea, b.addr, latch.Want{Suites: []string{s}})
				roundTrip(t, c, []byte("before"))
				conns[c] = sock
			}
			suites := func(e *Engine) (out []string) {
				for _, s := range e.Status().IKE {
					for _, c := range s.Children {
						out = append(out, c.Suite+" "+c.LocalTS+" "+c.RemoteTS)
					}
				}
				slices.Sort(out)
				return out
			}
			before := [...][]string{suites(ea), suites(eb)}
			for _, e := range []*Engine{ea, eb, ea} {
				allRekeyed(t, e, "all")
				for i, e := range []*Engine{ea, eb} {
					eventually(t, "the old child SAs are gone", func() bool { return len(suites(e)) == len(before[i]) })
					if after := suites(e); !slices.Equal(after, before[i]) {
						t.Errorf("child SAs %q, before %q", after, before[i])
					}
				}
				start := time.Now()
				roundTrip(t, wide, []byte("after"))
				for c := range conns {
					roundTrip(t, c, []byte("after"))
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("after %v", took)
				}
			}
			for c, sock := range conns {
				if got := sock.Latch().Params().Suite; sock.Child().Suite.String() != got {
					t.Errorf("%v: latched to %s, under %s", c, got, sock.Child().Suite)
				}
			}
		})
	}
}

// What is offered to replace a child SA, and taken.
func TestProposalsOfARekeying(t *testing.T) {
	const aes, aes128, chacha, null = "aes256gcm16", "aes128gcm16", "chacha20poly1305", "null-sha256"
	pair := func(local, remote string) ts.Pair {
		l, err1 := ts.Parse(local)
		r, err2 := ts.Parse(remote)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return ts.Pair{Local: ts.Set{l}, Remote: ts.Set{r}}
	}
	one, net := pair("10.0.0.1[tcp/1000]", "10.0.0.2[tcp/7]"), pair("10.0.0.0/24", "10.0.0.0/24")
	for name, tt := range map[string]struct {
		pair ts.Pair
		use  string
		conf []string
		want []string
	}{
		"wide":                         {pair: net, use: chacha, conf: []string{aes, chacha, aes128}, want: []string{chacha, aes, aes128}},
		"wide, one proposal":           {pair: net, use: chacha, conf: []string{"aes256gcm16-chacha20poly1305-x25519"}, want: []string{chacha, aes}},
		"wide, also in the clear":      {pair: net, use: chacha, conf: []string{null, aes, chacha}, want: []string{chacha, aes}},
		"wide, in the clear":           {pair: net, use: null, conf: []string{aes, null}, want: []string{null}},
		"narrow":                       {pair: one, use: chacha, conf: []string{aes, chacha}, want: []string{chacha}},
		"wide, not allowed any more":   {pair: net, use: aes128, conf: []string{aes, chacha}, want: []string{aes, chacha}},
		"narrow, not allowed any more": {pair: one, use: aes128, conf: []string{aes, chacha}, want: []string{aes, chacha}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &datapath.Child{Pair: tt.pair}
			var err error
			if c.Suite, err = esp.ParseSuite(tt.use); err != nil {
				t.Fatal(err)
			}
			cc := &ChildConf{}
			proposing(t, tt.conf...)(&Conn{Children: []*ChildConf{cc}})
			cc.suites = suites(cc.ESP)
			out := cc.again(c)
			if got := suites(out); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, p := range out {
				if len(tt.conf) == 1 && !slices.ContainsFunc(p.Transforms, func(x wire.Transform) bool { return x.Type == wire.TransformKE }) {
					t.Errorf("%s has lost its group", suite.String(p))
				}
			}
		})
	}
}
