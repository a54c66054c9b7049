package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/bench"
)

func benchCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure, against a baseline in the same run"}
	cmd.AddCommand(benchESPCmd())
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
				return fmt.Errorf("bench: %w", err)
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(report)
			}
			return report.WriteTable(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringSliceVar(&o.Suites, "suite", nil, "suites to measure (default: all AEADs)")
	cmd.Flags().IntSliceVar(&o.Sizes, "size", nil, "payload sizes in bytes (default: 64,512,1400,8192)")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 0, "rounds a figure is the median of (default: 21)")
	cmd.Flags().BoolVar(&o.ESN, "esn", false, "with extended sequence numbers")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
