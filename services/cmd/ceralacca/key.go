package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
)

func (c *cli) keyCommand() *cobra.Command {
	var display, expires, parent string
	var scopes []string
	var live bool
	create := verb("create", "Create an API key; it is shown once", args(), func(ctx context.Context, _ []string) error {
		owner, err := c.keyOwner(parent)
		if err != nil {
			return err
		}
		until, err := parseTime("expires", expires)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		key, err := api.CreateApiKey(ctx, &tenancyv1.CreateApiKeyRequest{
			Parent: owner, ApiKey: &tenancyv1.ApiKey{DisplayName: display, Scopes: scopes, Live: live, ExpireTime: until},
		})
		if err != nil {
			return err
		}
		return c.print(key, func() {
			c.fields("name", key.GetName(), "scopes", strings.Join(key.GetScopes(), " "), "expires", when(key.GetExpireTime()), "key", key.GetSecret())
		})
	})
	create.Flags().StringVar(&display, "display-name", "", "what the key is for")
	create.Flags().StringSliceVar(&scopes, "scopes", []string{"*"}, "what it may do: invoices.write, invoices.read, keys.write, ...; * is everything of its owner")
	create.Flags().StringVar(&expires, "expires", "", "date or time of its end")
	create.Flags().BoolVar(&live, "live", false, "cl_live_ instead of cl_test_")
	list := c.lister(verb("ls", "List keys", args(), func(ctx context.Context, _ []string) error {
		owner, err := c.keyOwner(parent)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*tenancyv1.ListApiKeysResponse, error) {
			return api.ListApiKeys(ctx, &tenancyv1.ListApiKeysRequest{Parent: owner, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, k := range page.GetApiKeys() {
				rows = append(rows, []string{k.GetName(), k.GetDisplayName(), k.GetPrefix() + "...", strings.Join(k.GetScopes(), " "), when(k.GetLastUseTime()), when(k.GetExpireTime()), when(k.GetRevokeTime())})
			}
			c.table([]string{"KEY", "WHAT FOR", "BEGINS", "SCOPES", "LAST USED", "EXPIRES", "REVOKED"}, rows)
		})
	}))
	revoke := verb("revoke KEY", "Revoke a key; it is final", args("KEY"), func(ctx context.Context, given []string) error {
		name := given[0]
		if !strings.Contains(name, "/") {
			owner, err := c.keyOwner(parent)
			if err != nil {
				return err
			}
			name = owner + "/apiKeys/" + name
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		key, err := api.RevokeApiKey(ctx, &tenancyv1.RevokeApiKeyRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(key, func() { c.fields("name", key.GetName(), "revoked", when(key.GetRevokeTime())) })
	})
	cmd := group("key", "API keys; generate makes one offline", create, list, revoke, c.generateCommand())
	cmd.PersistentFlags().StringVar(&parent, "owner", "", "tenants/ID, resellers/ID or operators/ID; the tenant when empty")
	return cmd
}

func (c *cli) keyOwner(flag string) (string, error) {
	if flag == "" {
		return c.tenantName()
	}
	kind, id, ok := strings.Cut(flag, "/")
	if !ok || id == "" || kind != "tenants" && kind != "resellers" && kind != "operators" {
		return "", usage("--owner: %q is not tenants/ID, resellers/ID or operators/ID", flag)
	}
	return flag, nil
}

// generateCommand makes a key without a server: the bootstrap key of the first operator, which a fresh
// installation reads from tenancy.bootstrap_operator_key_file.
func (c *cli) generateCommand() *cobra.Command {
	var output string
	var live bool
	cmd := verb("generate", "Make a key offline, for tenancy.bootstrap_operator_key_file", args(), func(context.Context, []string) error {
		key, err := auth.NewKey(live)
		if err != nil {
			return err
		}
		if output != "" {
			err = writeSecret(output, append([]byte(key), '\n'))
			if err != nil {
				return usage("--output: %v", err)
			}
		}
		if c.format == formatJSON {
			made := map[string]any{"live": live, "secret_sha256": hex.EncodeToString(auth.HashKey(key))}
			if output == "" {
				made["key"] = key
			}
			printJSON(c.out, made)
			return nil
		}
		if output != "" {
			_, err = fmt.Fprintf(c.errOut, "key %s... is in %s\n", auth.Visible(key), output)
			return err
		}
		_, err = fmt.Fprintln(c.out, key)
		return err
	})
	cmd.Long = cmd.Short + `.

No server knows the key until a platform starts with the file that holds it: then it may do everything that an operator
may. Use it to make the first operators' keys, keep it off line, and replace the file's key to revoke it.`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write, readable by its owner only; it must not exist")
	cmd.Flags().BoolVar(&live, "live", false, "cl_live_ instead of cl_test_")
	return cmd
}

// writeSecret makes a file that must not be there yet; an unfinished one is removed.
func writeSecret(file string, secret []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if err != nil {
		return err
	}
	_, err = f.Write(secret)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}
