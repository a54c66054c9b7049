package iketest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// A Transcript is what one host said to a peer that nobody here wrote, and heard from it: how
// the host was set up, what it was told to do, every datagram, what became of its SAs, each
// with its time. A host is a function of its seed and of the times of what it is given, so
// the same peer's datagrams must give the same answers again, octet for octet.
type Transcript struct {
	Title string // what happens, in a line
	Peer  string // who it was
	Setup Setup
	Lines []Line
}

// Line is one thing that happened, At after the start.
type Line struct {
	At            time.Duration
	Kind          Kind
	Text          string         // of Told and Event
	Local, Remote netip.AddrPort // of Sent and Came, as the host sees them
	Data          []byte         // of Sent and Came, without non-ESP marker
}

// Kind is the sign that a line has in the file.
type Kind byte

// The kinds.
const (
	Told  Kind = '!' // the host: a command of [Conversation.Tell]
	Sent  Kind = '>'
	Came  Kind = '<'
	Event Kind = '=' // of the machine
)

const transcriptMagic = "# btns transcript 1: ! told, > sent, < came, = event"

// String returns the text of the file.
func (t *Transcript) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\ntitle %s\npeer %s\n", transcriptMagic, t.Title, t.Peer)
	t.Setup.write(&b)
	b.WriteByte('\n')
	for i := range t.Lines {
		b.WriteString(t.Lines[i].String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns the line as the file has it.
func (l *Line) String() string {
	s := fmt.Sprintf("%.9f %c ", l.At.Seconds(), l.Kind)
	if l.Kind == Sent || l.Kind == Came {
		return s + fmt.Sprintf("%s %s %x", l.Local, l.Remote, l.Data)
	}
	return s + l.Text
}

// ParseTranscript reads what String wrote.
func ParseTranscript(text []byte) (*Transcript, error) {
	t := &Transcript{}
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, 1<<20)
	body := false
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		var err error
		switch {
		case n == 1:
			if line != transcriptMagic {
				err = errors.New("not a transcript")
			}
		case line == "":
			body = true
		case body:
			err = t.parseLine(line)
		default:
			err = t.parseHead(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return t, sc.Err()
}

func (t *Transcript) parseHead(line string) error {
	key, value, _ := strings.Cut(line, " ")
	switch key {
	case "title":
		t.Title = value
	case "peer":
		t.Peer = value
	default:
		return t.Setup.parse(key, value)
	}
	return nil
}

func (t *Transcript) parseLine(line string) error {
	f := strings.SplitN(line, " ", 3)
	if len(f) != 3 || len(f[1]) != 1 {
		return fmt.Errorf("want time, sign and text, got %q", line)
	}
	at, err := time.ParseDuration(f[0] + "s")
	if err != nil {
		return err
	}
	l := Line{At: at, Kind: Kind(f[1][0])}
	switch l.Kind {
	case Told, Event:
		l.Text = f[2]
	case Sent, Came:
		d := strings.Split(f[2], " ")
		if len(d) != 3 {
			return fmt.Errorf("want two addresses and octets, got %q", f[2])
		}
		var errs [3]error
		l.Local, errs[0] = netip.ParseAddrPort(d[0])
		l.Remote, errs[1] = netip.ParseAddrPort(d[1])
		l.Data, errs[2] = hex.DecodeString(d[2])
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown sign %q", f[1])
	}
	t.Lines = append(t.Lines, l)
	return nil
}

// Replay has a host like the one of the transcript live through it again, given what that one
// was given, and returns what happened now.
func (t *Transcript) Replay() *Conversation {
	c := NewConversation(t.Title, t.Peer, t.Setup)
	for i := range t.Lines {
		l := &t.Lines[i]
		switch l.Kind {
		case Told:
			c.Tell(l.At, l.Text)
		case Came:
			c.Come(l.At, l.Local, l.Remote, l.Data)
		default:
			c.Pass(l.At)
		}
	}
	return c
}

// Differs returns the first lines that differ between two transcripts, or "".
func (t *Transcript) Differs(now *Transcript) string {
	for i := range max(len(t.Lines), len(now.Lines)) {
		was, is := t.line(i), now.line(i)
		if was != is {
			return fmt.Sprintf("line %d of the conversation\nwas %s\nis  %s", i+1, was, is)
		}
	}
	return ""
}

func (t *Transcript) line(i int) string {
	if i >= len(t.Lines) {
		return "over"
	}
	return t.Lines[i].String()
}

// A Conversation is a transcript in the making.
type Conversation struct {
	Sim  *Sim
	Host *Host
	// OnSend, if not nil, carries what the host sends to the peer.
	OnSend func(local, remote netip.AddrPort, data []byte)

	t *Transcript
}

// NewConversation sets a host up. Its network is the caller: nothing arrives but what Come
// brings.
func NewConversation(title, peer string, setup Setup) *Conversation {
	s := New(setup.Seed)
	c := &Conversation{Sim: s, Host: setup.host(s), t: &Transcript{Title: title, Peer: peer, Setup: setup}}
	s.Tap = func(d Datagram) []Datagram {
		c.note(Line{Kind: Sent, Local: d.From, Remote: d.To, Data: d.Data})
		if c.OnSend != nil {
			c.OnSend(d.From, d.To, d.Data)
		}
		return nil
	}
	c.Host.OnEvent = func(_ *End, ev ike.Event) {
		if text := describe(ev); text != "" {
			c.note(Line{Kind: Event, Text: text})
		}
	}
	return c
}

// Transcript returns what was said so far.
func (c *Conversation) Transcript() *Transcript { return c.t }

func (c *Conversation) note(l Line) {
	l.At = c.Sim.Elapsed()
	c.t.Lines = append(c.t.Lines, l)
}

// Pass lets time pass until at after the start.
func (c *Conversation) Pass(at time.Duration) {
	if d := at - c.Sim.Elapsed(); d > 0 {
		c.Sim.Run(d, nil)
	}
}

// Come has a datagram arrive.
func (c *Conversation) Come(at time.Duration, local, remote netip.AddrPort, data []byte) {
	c.Pass(at)
	c.note(Line{Kind: Came, Local: local, Remote: remote, Data: bytes.Clone(data)})
	c.Host.datagram(path(local, remote), bytes.Clone(data))
}

// Tell has the host do something: "initiate", "initiate childless", "create child",
// "rekey child", "rekey ike", "delete child", "delete ike", "check liveness". All but the
// first two are about the newest IKE SA, and its first child SA.
func (c *Conversation) Tell(at time.Duration, command string) {
	c.Pass(at)
	c.note(Line{Kind: Told, Text: command})
	now, h := c.Sim.Now, c.Host
	switch command {
	case "initiate":
		h.ConnectTo(c.t.Setup.Remote, h.Request("net", c.t.Setup.pair()))
		return
	case "initiate childless":
		h.ConnectTo(c.t.Setup.Remote, nil)
		return
	}
	e := c.newest()
	if e == nil {
		c.Sim.fail("told to %s without an IKE SA", command)
		return
	}
	child := func(do func(m *ike.Machine, spi uint32)) {
		for _, made := range e.firstMade() {
			if e.Children[made.InSPI] == made {
				e.Do(func(m *ike.Machine) { do(m, made.InSPI) })
				return
			}
		}
		c.Sim.fail("told to %s without a child SA", command)
	}
	switch command {
	case "create child":
		e.CreateChild(h.Request("net", c.t.Setup.pair()))
	case "rekey child":
		child(func(m *ike.Machine, spi uint32) { m.RekeyChild(now, spi) })
	case "delete child":
		child(func(m *ike.Machine, spi uint32) { m.DeleteChild(now, spi) })
	case "rekey ike":
		e.Do(func(m *ike.Machine) { m.RekeyIKE(now) })
	case "delete ike":
		e.Do(func(m *ike.Machine) { m.Delete(now) })
	case "check liveness":
		e.Do(func(m *ike.Machine) { m.CheckLiveness(now) })
	default:
		c.Sim.fail("no command %q", command)
	}
}

// newest returns the newest IKE SA that stands.
func (c *Conversation) newest() *End {
	up := c.Host.Established()
	if len(up) == 0 {
		return nil
	}
	return up[len(up)-1]
}

// firstMade returns all child SAs that the SA and those before it made, oldest first.
func (e *End) firstMade() []*Child {
	if e.Prev == nil {
		return e.Made
	}
	return append(e.Prev.firstMade(), e.Made...)
}

// describe returns an event in a line that stays the same when words of errors change; ""
// for events that say nothing about the conversation.
func describe(ev ike.Event) string {
	name := reflect.TypeOf(ev).Elem().Name()
	switch ev := ev.(type) {
	case *ike.KeyLog, *ike.Wake:
		return ""
	case *ike.Established:
		return fmt.Sprintf("%s %016x %016x %s with %s, encap %t, initial contact %t",
			name, ev.SPIi, ev.SPIr, ev.Suite, ev.RemoteID.String(), ev.Encap, ev.InitialContact)
	case *ike.ChildInbound:
		return fmt.Sprintf("%s %08x %08x %s %s, replaces %08x", name, ev.InSPI, ev.OutSPI, ev.Suite, ev.Pair, ev.Replaces)
	case *ike.ChildOutbound:
		return fmt.Sprintf("%s %08x %08x", name, ev.InSPI, ev.OutSPI)
	case *ike.ChildRemoved:
		return fmt.Sprintf("%s %08x %08x, %s", name, ev.InSPI, ev.OutSPI, ev.Reason)
	case *ike.SPIReleased:
		return fmt.Sprintf("%s %08x", name, ev.SPI)
	case *ike.Rekeyed:
		return fmt.Sprintf("%s %016x %016x %s", name, ev.SPIi, ev.SPIr, ev.Suite)
	case *ike.ChildFailed:
		return name + " " + refused(ev.Err)
	case *ike.RekeyFailed:
		return name + " " + refused(ev.Err)
	case *ike.Unverified:
		return name + " " + refused(ev.Err)
	case *ike.Failed:
		return name + " " + refused(ev.Err)
	case *ike.Closed:
		return fmt.Sprintf("%s, %s", name, ev.Reason)
	}
	return name
}

// refused names what an error says on the wire.
func refused(err error) string {
	var n *ike.NotifyError
	if errors.As(err, &n) {
		return fmt.Sprintf("%s %s, remote %t, verified %t", n.Exchange, n.Type, n.Remote, n.Verified)
	}
	var parse *wire.ParseError
	if errors.As(err, &parse) {
		return "malformed"
	}
	return fmt.Sprintf("%T", err)
}
