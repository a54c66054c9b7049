package sockets

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// TestOperate: an operator's words, through the control socket.
func TestOperate(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	a := newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}, Children: []Child{{Name: "net"}}}}})
	path := filepath.Join(t.TempDir(), "run", "control")
	ctl, err := a.ServeControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ask := func(op, name string) int {
		t.Helper()
		var n int
		if err := AskControl(ctx, path, op, name, &n); err != nil {
			t.Fatalf("%s %s: %v", op, name, err)
		}
		return n
	}
	ask("initiate", "b")
	ask("initiate", "b") // up already
	var st Status
	if err := AskControl(ctx, path, "status", "", &st); err != nil || len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 {
		t.Fatalf("after initiate: %+v, %v", st.IKE, err)
	}
	child := st.IKE[0].Children[0]
	within := func(what string, at time.Time, d time.Duration) {
		t.Helper()
		if left := time.Until(at); left < d*8/10 || left > d {
			t.Errorf("%s in %s, of %s", what, left, d)
		}
	}
	within("the IKE SA is rekeyed", st.IKE[0].Rekey, DefaultIKERekey)
	within("the child SA is rekeyed", child.Rekey, DefaultChildRekey)
	within("the child SA expires", child.Expires, DefaultChildRekey*11/10)
	if age := time.Since(child.Installed); age < 0 || age > time.Minute || child.State != "INSTALLED" || !st.IKE[0].Reauth.IsZero() {
		t.Errorf("child SA %+v of %+v", child, st.IKE[0])
	}
	if n := ask("rekey", child.Name); n != 1 {
		t.Errorf("rekey found %d child SAs", n)
	}
	if n := ask("rekey", "b"); n != 1 {
		t.Errorf("rekey found %d IKE SAs", n)
	}
	eventually(t, "both have new SPIs", func() bool {
		s := a.Status()
		return len(s.IKE) == 1 && s.IKE[0].Num != st.IKE[0].Num && len(s.IKE[0].Children) == 1 && s.IKE[0].Children[0].InSPI != child.InSPI
	})
	echo(t, b, ":7")
	roundTrip(t, dial(t, a, "tcp", inner(b, "7")), []byte("still here"))
	if n := ask("terminate", "b"); n != 1 {
		t.Errorf("terminate found %d IKE SAs", n)
	}
	eventually(t, "the peer, who was told, has no SA", func() bool { return len(b.Status().IKE) == 0 })
	for _, op := range []string{"initiate", "terminate", "rekey", "explode"} {
		if err := AskControl(ctx, path, op, "nobody", nil); err == nil {
			t.Errorf("%s nobody: no error", op)
		}
	}
}
