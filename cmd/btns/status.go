package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets"
)

func statusCmd() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say what a running host does", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if socket == "" {
				socket = defaultControl()
			}
			if asJSON {
				var raw json.RawMessage
				if err := sockets.AskControl(cmd.Context(), socket, "status", "", &raw); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", raw)
				return err
			}
			var st sockets.Status
			if err := sockets.AskControl(cmd.Context(), socket, "status", "", &st); err != nil {
				return err
			}
			printStatus(cmd.OutOrStdout(), &st)
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "control", "", "control socket (default: in the runtime directory)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printStatus writes SAs in the layout of swanctl --list-sas.
func printStatus(w io.Writer, st *sockets.Status) {
	authenticated, anonymous := 0, 0
	now := time.Now()
	for _, s := range st.IKE {
		if s.State == "ESTABLISHED" && s.Anonymous {
			anonymous++
		} else if s.State == "ESTABLISHED" {
			authenticated++
		}
		i, r := "", ""
		if s.Initiator {
			i = "*"
		} else {
			r = "*"
		}
		name := s.Name
		if name == "" {
			name = "(unknown)"
		}
		fmt.Fprintf(w, "%s: #%d, %s, IKEv2, %s_i%s %s_r%s\n", name, s.Num, s.State, s.SPIi, i, s.SPIr, r)
		fmt.Fprintf(w, "  local  '%s' @ %s\n", s.LocalID, s.Local)
		remote := s.RemoteID
		if remote == "" {
			remote = "%any"
		}
		fmt.Fprintf(w, "  remote '%s' @ %s", remote, s.Remote)
		if s.Method != "" {
			fmt.Fprintf(w, ", %s", s.Method)
		}
		fmt.Fprintln(w)
		if s.Suite != "" {
			fmt.Fprintf(w, "  %s\n", s.Suite)
		}
		if s.State == "ESTABLISHED" {
			fmt.Fprintf(w, "  established %s ago%s%s\n", s.Age.Round(time.Second), in("rekeying", s.Rekey, now), in("reauthenticating", s.Reauth, now))
		}
		if s.Error != "" {
			fmt.Fprintf(w, "  %s\n", s.Error)
		}
		for i := range s.Children {
			encap := ""
			if s.Encap {
				encap = "-in-UDP"
			}
			printChild(w, &s.Children[i], encap, now)
		}
	}
	for i := range st.Manual {
		printChild(w, &st.Manual[i], "", now)
	}
	fmt.Fprintf(w, "IKE SAs: %d authenticated, %d anonymous, %d in all; latches: %d\n", authenticated, anonymous, len(st.IKE), st.Latches)
}

func printChild(w io.Writer, c *sockets.ChildStatus, encap string, now time.Time) {
	esn := ""
	if c.ESN {
		esn = "/ESN"
	}
	fmt.Fprintf(w, "  %s: %s, %s%s, ESP:%s%s\n", c.Name, c.State, c.Mode, encap, c.Suite, esn)
	fmt.Fprintf(w, "    installed %s ago%s%s\n", max(0, now.Sub(c.Installed)).Round(time.Second), in("rekeying", c.Rekey, now), in("expires", c.Expires, now))
	fmt.Fprintf(w, "    in  %s, %10d bytes, %8d packets%s\n", c.InSPI, c.InBytes, c.InPackets, ago(c.LastHeard, now))
	fmt.Fprintf(w, "    out %s, %10d bytes, %8d packets%s\n", c.OutSPI, c.OutBytes, c.OutPackets, ago(c.LastSent, now))
	fmt.Fprintf(w, "    local  %s\n    remote %s\n", c.LocalTS, c.RemoteTS)
}

// in says when something comes; nothing for what never does.
func in(what string, t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf(", %s in %s", what, max(0, t.Sub(now)).Round(time.Second))
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf(", %s ago", max(0, now.Sub(t)).Round(time.Second))
}
