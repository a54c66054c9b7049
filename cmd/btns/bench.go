package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/bench"
)

func benchCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure, against a baseline in the same run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(benchESPCmd(), benchIKECmd())
	return cmd
}

func benchESPCmd() *cobra.Command {
	var o bench.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use: "esp", Short: "Seal and Open against the bare AEAD, on one core", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := bench.ESP(cmd.Context(), o)
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), report, asJSON)
		},
	}
	cmd.Flags().StringSliceVar(&o.Suites, "suite", nil, "suites to measure (default: all AEADs)")
	cmd.Flags().IntSliceVar(&o.Sizes, "size", nil, "payload sizes in bytes (default: 64,512,1400,8192)")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 0, "rounds a figure is the median of (default: 21)")
	cmd.Flags().BoolVar(&o.ESN, "esn", false, "with extended sequence numbers")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func benchIKECmd() *cobra.Command {
	var o bench.IKEOptions
	var asJSON bool
	var profile string
	cmd := &cobra.Command{
		Use: "ike", Short: "Handshakes of two whole hosts per second, and memory per tunnel", Args: cobra.NoArgs,
		Long: "Full handshakes (IKE_SA_INIT and IKE_AUTH with a child SA) of two whole hosts in this\n" +
			"process over a wire in memory, against the bare cryptography; and the memory of one host\n" +
			"per tunnel, against " + strconv.Itoa(bench.TunnelTarget) + " bytes.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profile != "" && len(o.Methods) != 1 {
				return fmt.Errorf("bench: --cpuprofile needs one --auth")
			}
			if profile != "" {
				f, err := os.Create(profile)
				if err != nil {
					return fmt.Errorf("bench: %w", err)
				}
				defer f.Close()
				o.CPUProfile = f
			}
			report, err := bench.IKE(cmd.Context(), o)
			if err != nil {
				return err
			}
			return printReport(cmd.OutOrStdout(), report, asJSON)
		},
	}
	cmd.Flags().StringSliceVar(&o.Methods, "auth", nil, "how both ends authenticate (default: psk,ed25519)")
	cmd.Flags().IntVar(&o.Handshakes, "handshakes", 0, "handshakes of one round (default: 1000)")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 0, "rounds a figure is the median of (default: 5)")
	cmd.Flags().IntVar(&o.Tunnels, "tunnels", 0, "tunnels of the host whose memory is measured, -1 for none (default: 10000)")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile of the handshakes to this file; needs one --auth")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printReport(w io.Writer, report *bench.Report, asJSON bool) error {
	if !asJSON {
		return report.WriteTable(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}
