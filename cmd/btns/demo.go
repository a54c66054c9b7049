package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/tun/tuntest"
)

// demoLimit bounds the recording, which is held in memory: there may be no place for a
// file. What passes beyond it is searched, but not kept.
const demoLimit = 256 << 20

// maxMegabytes is what a slow machine transfers within demoTime, and what the sizes in it
// can count on 32 bits.
const maxMegabytes = 1024

// demoTime is how long the demo may take.
const demoTime = 5 * time.Minute

// demoOptions are the flags of `btns demo`.
type demoOptions struct {
	megabytes int
	pcap      string
	verbose   bool
	limit     int // of the recording; no flag
}

func demoCmd() *cobra.Command {
	o := demoOptions{limit: demoLimit}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Two hosts, a relay between them, and the proof that it saw nothing",
		Long: "Starts two complete hosts as two processes that speak only UDP over loopback, joined by a relay that\n" +
			"records what passes. They key with BTNS: fresh keys, no prior trust, addresses derived from the keys.\n" +
			"Needs no privilege, no files and no network. Ends in 0 only when everything it says was seen to hold.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	cmd.Flags().IntVar(&o.megabytes, "megabytes", 64, "size of the timed transfer, in MiB")
	cmd.Flags().StringVar(&o.pcap, "pcap", "", fmt.Sprintf("keep the relay's recording, the first %d MiB, in this file (pcapng)", demoLimit>>20))
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the hosts' logs")
	return cmd
}

// demo runs the whole story; each line it prints was seen to be so.
func demo(ctx context.Context, out, logs io.Writer, o demoOptions) error {
	if o.megabytes < 1 || o.megabytes > maxMegabytes {
		return fmt.Errorf("demo: --megabytes %d is not between 1 and %d", o.megabytes, maxMegabytes)
	}
	marker := make([]byte, 16)
	if _, err := rand.Read(marker); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d := &demonstration{o: o, out: out, logs: logs, rec: newRecording(o.limit, hex.EncodeToString(marker))}
	if o.pcap == "" {
		if err := d.run(ctx); err != nil {
			return err
		}
		d.say("Everything held.")
		return nil
	}
	file, err := os.Create(o.pcap)
	if err != nil {
		return fmt.Errorf("demo: the recording: %w", err)
	}
	story := d.run(ctx)
	_, err = d.rec.WriteTo(file) // whatever happened: it may show why
	if err = errors.Join(err, file.Close()); err != nil {
		err = fmt.Errorf("demo: the recording: %w", err)
	}
	if err := errors.Join(story, err); err != nil {
		return err
	}
	d.say("   The recording is in %s.", o.pcap)
	d.say("Everything held.")
	return nil
}

// A demonstration is one run of the demo.
type demonstration struct {
	o    demoOptions
	out  io.Writer
	logs io.Writer
	rec  *recording

	server, client       *demoProcess
	serverEnd, clientEnd endpoint
	serverAddr           netip.Addr // inside the tunnel
}

func (d *demonstration) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demonstration) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	var err error
	if d.server, err = startHost(ctx, d.logs, d.o.verbose, "server", d.rec.secret, d.rec.control); err != nil {
		return err
	}
	defer d.server.kill()
	if err := d.server.next(&d.serverEnd.udp); err != nil {
		return err
	}
	relay, err := tuntest.NewRelay(tuntest.RelayConfig{Target: d.serverEnd.udp, Recorder: d.rec.Recorder})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer relay.Close()
	if d.client, err = startHost(ctx, d.logs, d.o.verbose, "client", d.rec.secret, d.rec.control, relay.Addr().String()); err != nil {
		return err
	}
	defer d.client.kill()
	if err := d.client.next(&d.clientEnd.udp); err != nil {
		return err
	}
	d.say("1. Two processes with a UDP socket each, and a relay between them that records what it passes on:\n"+
		"   client %s, relay %s, server %s", d.clientEnd.udp, relay.Addr(), d.serverEnd.udp)
	for _, step := range []func() error{d.control, d.keys, d.transfer, d.end} {
		if err := step(); err != nil {
			return err
		}
	}
	// Everything that was sent has gone through the relay: the last of it were answered.
	return d.rec.judge(d.o.megabytes<<20, d.say)
}

// control awaits what the hosts' sockets carry before there is a host: a text in clear.
func (d *demonstration) control() error {
	for _, p := range []*demoProcess{d.server, d.client} {
		var got string
		if err := p.next(&got); err != nil {
			return err
		}
		if got != d.rec.control {
			return fmt.Errorf("demo: the %s received the control transfer as %q", p.role, got)
		}
	}
	d.say("2. A control: both sent the other a text in clear, with these sockets and through this relay, and it arrived.")
	return nil
}

// keys awaits the two hosts, which use the same sockets from now on.
func (d *demonstration) keys() error {
	var up hostUp
	var err error
	if err = d.server.next(&up); err != nil {
		return err
	}
	if d.serverEnd.key, err = up.check(); err != nil {
		return err
	}
	d.serverAddr = up.Address
	d.say("3. A host in each process takes over its socket. They make their own keys; nobody vouches for them.\n"+
		"   The addresses are derived from the keys:\n"+
		"   server   %s\n            %s", d.serverEnd.key, d.serverAddr)
	if err = d.client.next(&up); err != nil {
		return err
	}
	if d.clientEnd.key, err = up.check(); err != nil {
		return err
	}
	if d.clientEnd.key == d.serverEnd.key {
		return errors.New("demo: both hosts have the same key")
	}
	d.say("   client   %s\n            %s", d.clientEnd.key, up.Address)
	return nil
}

// transfer has the client call the server, and compares what the ends saw.
func (d *demonstration) transfer() error {
	var res clientResult
	if err := d.client.ask(fmt.Sprint(d.serverAddr, " ", d.o.megabytes), &res); err != nil {
		return err
	}
	if want := "you are " + d.clientEnd.key; res.Answer != want {
		return fmt.Errorf("demo: the server saw %q, the client is %s", res.Answer, d.clientEnd.key)
	}
	var seen held
	if err := d.server.ask("report", &seen); err != nil {
		return err
	}
	if err := agree(&res.held, &seen, d.clientEnd, d.serverEnd); err != nil {
		return err
	}
	d.say("4. IKEv2 with bare public keys, ESP, TCP, HTTP: the server's handler answers who called:\n   %s", res.Answer)
	d.say("5. %d MiB from server to client in %s: %.0f Mbit/s; SHA-256 equal at both ends: %s",
		res.Bytes>>20, time.Duration(res.Nanos).Round(time.Millisecond), float64(res.Bytes)*8e3/float64(res.Nanos), res.Hash[:16])
	d.say("6. What each end holds for the connection (its PToken):\n   client:\n%s\n   server:\n%s", indent(res.Token), indent(seen.Token))
	return nil
}

// end closes the hosts, the client first.
func (d *demonstration) end() error {
	d.say("7. The client closes, and then the server. What each has to say of its SAs:")
	for _, p := range []*demoProcess{d.client, d.server} {
		var last hostEnd
		if err := p.stop(&last); err != nil {
			return err
		}
		if err := last.check(p == d.server); err != nil {
			return fmt.Errorf("demo: the %s: %w", p.role, err)
		}
		d.say("   %s:", p.role)
		for _, e := range last.Events {
			d.say("     %s", e)
		}
	}
	d.say("   All that came up are down, and both processes have ended.")
	return nil
}

func indent(s string) string {
	var b bytes.Buffer
	for line := range bytes.Lines([]byte(s)) {
		fmt.Fprintf(&b, "     %s", line)
	}
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}
