package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets/config"
)

func referenceCmd() *cobra.Command {
	return &cobra.Command{
		Use: "reference", Short: "Print a configuration file with every key explained", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), config.Reference())
			return err
		},
	}
}
