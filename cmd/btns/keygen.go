package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/sockets"
)

// newKey is what `btns keygen` tells of a key.
type newKey struct {
	Private     string `json:"private_key"`
	Public      string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	Address     string `json:"address"`
}

func keygenCmd() *cobra.Command {
	var kind string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key: the private half in FILE, the public half in FILE.pub",
		Args:  oneArg("the name of a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := auth.ParseKind(kind)
			if err != nil {
				return err
			}
			key, err := auth.GenerateKey(k)
			if err != nil {
				return err
			}
			spki := auth.SPKI(key.Public())
			file := args[0]
			if _, err := os.Lstat(file + ".pub"); err == nil {
				// Before the private half is written, which would be left without it.
				return exists(file+".pub", fs.ErrExist)
			}
			if err := auth.SavePrivateKey(file, key); err != nil {
				return exists(file, err)
			}
			if err := auth.SavePublicKey(file+".pub", spki); err != nil {
				return exists(file+".pub", err)
			}
			addr, err := sockets.KeyAddress(key.Public())
			if err != nil {
				return err
			}
			out := newKey{Private: file, Public: file + ".pub", Fingerprint: auth.Fingerprint(spki), Address: addr.String()}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "private key  %s\npublic key   %s\nfingerprint  %s\naddress      %s\n",
				out.Private, out.Public, out.Fingerprint, out.Address)
			return nil
		},
	}
	cmd.Flags().StringVar(&kind, "type", "ed25519", "kind of key: ed25519, ecdsa-p256, ecdsa-p384")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func exists(file string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and a key is never overwritten", file)
	}
	return err
}
