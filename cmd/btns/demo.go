package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/tun/tuntest"
)

// demoLimit bounds the recording, which is held in memory: there may be no place for a
// file. What passes beyond it is searched, but not kept.
const demoLimit = 512 << 20

// maxMegabytes is what a slow machine transfers within the demo's five minutes, and what
// the sizes in it can count on 32 bits.
const maxMegabytes = 1024

// demoOptions are the flags of `btns demo`.
type demoOptions struct {
	megabytes int
	pcap      string
	verbose   bool
}

func demoCmd() *cobra.Command {
	var o demoOptions
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
	cmd.Flags().StringVar(&o.pcap, "pcap", "", "keep the relay's recording in this file (pcapng)")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the hosts' logs")
	return cmd
}

// demo runs the whole story; each line it prints was seen to be so.
func demo(ctx context.Context, out, logs io.Writer, o demoOptions) error {
	if o.megabytes < 1 || o.megabytes > maxMegabytes {
		return fmt.Errorf("demo: --megabytes %d is not between 1 and %d", o.megabytes, maxMegabytes)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }

	marker := make([]byte, 16)
	if _, err := rand.Read(marker); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	secret := []byte("plaintext-" + hex.EncodeToString(marker))
	control := []byte("control-" + hex.EncodeToString(marker))
	// What is looked for: the plaintext itself, the words of the request, the control.
	rec := tuntest.NewRecorder(min(demoLimit, (o.megabytes+o.megabytes/4+16)<<20), secret, []byte("GET /whoami"), control)

	say("1. The server: a process with a fresh key. Nobody has vouched for it.")
	server, err := startHost(ctx, logs, o, "server", string(secret))
	if err != nil {
		return err
	}
	defer server.kill()
	var up hostUp
	if err := server.next(&up); err != nil {
		return err
	}
	say("   key      %s\n   address  %s  (derived from the key)\n   UDP      %s", up.Fingerprint, up.Address, up.UDP)

	udp, err := netip.ParseAddrPort(up.UDP)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	relay, err := tuntest.NewRelay(tuntest.RelayConfig{Target: udp, Recorder: rec})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer relay.Close()
	say("2. The relay: %s, records every datagram between them.", relay.Addr())

	say("3. The client: another process with a fresh key; knows the server's address and the relay.")
	client, err := startHost(ctx, logs, o, "client", string(secret), relay.Addr().String(), up.Address, fmt.Sprint(o.megabytes))
	if err != nil {
		return err
	}
	defer client.kill()
	var cup hostUp
	if err := client.next(&cup); err != nil {
		return err
	}
	say("   key      %s\n   address  %s", cup.Fingerprint, cup.Address)

	var res clientResult
	if err := client.next(&res); err != nil {
		return err
	}
	say("4. IKEv2 with bare public keys, ESP, TCP, HTTP: the server's handler answers who called:\n   %s", res.Answer)
	if want := "you are " + cup.Fingerprint; res.Answer != want {
		return fmt.Errorf("demo: the server saw %q, the client is %s", res.Answer, cup.Fingerprint)
	}
	say("5. %d MiB from server to client in %s: %.0f Mbit/s; SHA-256 equal at both ends: %s",
		res.Bytes>>20, time.Duration(res.Nanos).Round(time.Millisecond), float64(res.Bytes)*8e3/float64(res.Nanos), res.Hash[:16])

	var seen serverResult
	if err := server.ask("report", &seen); err != nil {
		return err
	}
	if seen.Hash != res.Hash {
		return fmt.Errorf("demo: the client received %s, the server sent %s", res.Hash, seen.Hash)
	}
	say("6. What each end holds for the connection (its PToken):")
	say("   client:\n%s", indent(res.Token))
	say("   server:\n%s", indent(seen.Token))
	if res.RemoteKey != up.Fingerprint || seen.RemoteKey != cup.Fingerprint {
		return errors.New("demo: the ends do not agree on who they are")
	}

	if err := client.stop(); err != nil {
		return err
	}
	if err := server.stop(); err != nil {
		return err
	}
	say("7. Both hosts deleted their SAs and ended.")
	if err := controlTransfer(ctx, rec, control); err != nil {
		return err
	}

	datagrams, bytes, kept := rec.Counts()
	say("8. The relay saw %d datagrams, %d bytes; %d are in its recording.", datagrams, bytes, kept)
	if datagrams < 10 || bytes < res.Bytes {
		return fmt.Errorf("demo: only %d bytes passed the relay: the transfer went another way", bytes)
	}
	if err := search(rec, secret, control, say); err != nil {
		return err
	}
	if o.pcap != "" {
		if err := save(rec, o.pcap); err != nil {
			return err
		}
		say("   recording kept in %s", o.pcap)
	}
	say("Everything held.")
	return nil
}

// search looks for what must not be there, and for what must, or the search proves nothing.
func search(rec *tuntest.Recorder, secret, control []byte, say func(string, ...any)) error {
	var file bytes.Buffer
	if _, err := rec.WriteTo(&file); err != nil {
		return fmt.Errorf("demo: the recording: %w", err)
	}
	_, hits, err := tuntest.SearchFile(bytes.NewReader(file.Bytes()), secret)
	if err != nil {
		return fmt.Errorf("demo: the recording: %w", err)
	}
	if hits > 0 || rec.Watched(0) > 0 || rec.Watched(1) > 0 {
		return fmt.Errorf("demo: the plaintext crossed the relay in %d datagrams", max(hits, rec.Watched(0), rec.Watched(1)))
	}
	say("9. The plaintext of the transfer, and of the request, is in none of them.")
	_, hits, err = tuntest.SearchFile(bytes.NewReader(file.Bytes()), control)
	if err != nil {
		return fmt.Errorf("demo: the recording: %w", err)
	}
	if hits == 0 || rec.Watched(2) == 0 {
		return errors.New("demo: the clear control transfer was not found: the search proves nothing")
	}
	say("   A control transfer in clear through the same relay was found in %d of them.", hits)
	return nil
}

// controlTransfer sends a datagram in clear the way the hosts' went: into the same
// recording.
func controlTransfer(ctx context.Context, rec *tuntest.Recorder, control []byte) error {
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("demo: control: %w", err)
	}
	defer sink.Close()
	at := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	relay, err := tuntest.NewRelay(tuntest.RelayConfig{Target: at, Recorder: rec})
	if err != nil {
		return fmt.Errorf("demo: control: %w", err)
	}
	defer relay.Close()
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp4", relay.Addr().String())
	if err != nil {
		return fmt.Errorf("demo: control: %w", err)
	}
	defer c.Close()
	if _, err := c.Write(append([]byte("in clear: "), control...)); err != nil {
		return fmt.Errorf("demo: control: %w", err)
	}
	_ = sink.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := sink.Read(make([]byte, 1500)); err != nil {
		return fmt.Errorf("demo: the control transfer did not arrive: %w", err)
	}
	return nil
}

func save(rec *tuntest.Recorder, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	_, err = rec.WriteTo(f)
	return errors.Join(err, f.Close())
}

func indent(s string) string {
	var b bytes.Buffer
	sc := bufio.NewScanner(bytes.NewReader([]byte(s)))
	for sc.Scan() {
		fmt.Fprintf(&b, "     %s\n", sc.Text())
	}
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}

// A child process is one host of the demo. It speaks JSON lines over its pipes.
type demoProcess struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	done bool
}

func startHost(ctx context.Context, logs io.Writer, o demoOptions, args ...string) (*demoProcess, error) {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0] // no /proc in a bare root
	}
	args = append([]string{"demo-host"}, args...)
	if o.verbose {
		args = append(args, "--verbose")
	}
	p := &demoProcess{role: args[1], cmd: exec.CommandContext(ctx, self, args...)}
	p.cmd.Stderr = logs
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("demo: %s: %w", p.role, err)
	}
	return p, nil
}

// next reads the host's next message.
func (p *demoProcess) next(v any) error {
	var m struct {
		Error string          `json:"error"`
		Value json.RawMessage `json:"value"`
	}
	if err := p.out.Decode(&m); err != nil {
		return fmt.Errorf("demo: the %s ended early: %w", p.role, err)
	}
	if m.Error != "" {
		return fmt.Errorf("demo: %s: %s", p.role, m.Error)
	}
	return json.Unmarshal(m.Value, v)
}

// ask sends a word and reads the answer.
func (p *demoProcess) ask(word string, v any) error {
	if _, err := fmt.Fprintln(p.in, word); err != nil {
		return fmt.Errorf("demo: %s: %w", p.role, err)
	}
	return p.next(v)
}

// stop ends the host by ending its input, and waits.
func (p *demoProcess) stop() error {
	p.done = true
	_ = p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("demo: %s: %w", p.role, err)
	}
	return nil
}

func (p *demoProcess) kill() {
	if !p.done {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}
