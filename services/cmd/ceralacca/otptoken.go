package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/pskc"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) otpTokenCommand() *cobra.Command {
	return group("token", "Hardware tokens: the tenant's stock", c.tokenImport(), c.tokenList(), c.tokenRetire())
}

// tokenFile says how seeds are read.
type tokenFile struct {
	passphrase, key, serial, kind, algorithm string
	digits, period                           int
	counter                                  int64
}

func (f *tokenFile) read(c *cli, path string) ([]pskc.Token, error) {
	raw, err := c.read(path)
	if err != nil {
		return nil, err
	}
	if f.serial == "" {
		open := pskc.Secrets{}
		if f.passphrase != "" {
			text, err := c.readFlag("--passphrase-file", f.passphrase, largestText)
			if err != nil {
				return nil, err
			}
			open.Passphrase = strings.TrimRight(string(text), "\r\n")
		}
		if f.key != "" {
			text, err := c.readFlag("--transport-key-file", f.key, largestText)
			if err != nil {
				return nil, err
			}
			if open.Key, err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil {
				return nil, usage("--transport-key-file: %s holds no hexadecimal key", f.key)
			}
		}
		tokens, err := pskc.Read(raw, open)
		if err != nil {
			return nil, usage("%s: %v", path, err)
		}
		return tokens, nil
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, usage("%s: with --serial the file holds one seed, hexadecimal", path)
	}
	t := pskc.Token{Serial: f.serial, Kind: pskc.Kind(strings.ToUpper(f.kind)), Algorithm: strings.ToUpper(f.algorithm), Digits: f.digits, Period: f.period, Counter: f.counter, Seed: seed}
	if t.Kind != pskc.HOTP && t.Kind != pskc.TOTP {
		return nil, usage("--kind is hotp or totp, not %q", f.kind)
	}
	return []pskc.Token{t}, nil
}

// wrappingKey reads the key of the server's Vault.
func wrappingKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fault.Internal("WRAPPING_KEY", "the server's wrapping key is no PEM")
	}
	read, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := read.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, fault.Internal("WRAPPING_KEY", "the server's wrapping key is no RSA key")
	}
	return key, nil
}

func (c *cli) tokenImport() *cobra.Command {
	f := &tokenFile{}
	cmd := verb("import FILE", "Take hardware tokens in: from a PSKC file, or one seed in hexadecimal with --serial", args("FILE"), func(ctx context.Context, given []string) error {
		tokens, err := f.read(c, given[0])
		if err != nil {
			return err
		}
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		wrapping, err := api.GetSeedWrappingKey(ctx, &signv1.GetSeedWrappingKeyRequest{Parent: parent})
		if err != nil {
			return err
		}
		public, err := wrappingKey(wrapping.GetPublicKeyPem())
		if err != nil {
			return err
		}
		all := &signv1.ListOathTokensResponse{}
		for _, t := range tokens {
			wrapped, err := pskc.WrapSeed(public, t.Seed)
			if err != nil {
				return usage("%s: %v", t.Serial, err)
			}
			made, err := api.ImportOathToken(ctx, &signv1.ImportOathTokenRequest{Parent: parent, WrappedSeed: wrapped, OathToken: &signv1.OathToken{
				Serial: t.Serial, Digits: int32(t.Digits), Period: int32(t.Period), Counter: t.Counter, //nolint:gosec // small numbers
				Kind:      signv1.OathKind(signv1.OathKind_value["OATH_KIND_"+string(t.Kind)]),
				Algorithm: signv1.OathAlgorithm(signv1.OathAlgorithm_value["OATH_ALGORITHM_"+t.Algorithm]),
			}})
			if err != nil {
				fmt.Fprintf(c.errOut, "%d of %d were taken in; this one was not: %s\n", len(all.GetOathTokens()), len(tokens), t.Serial)
				return err
			}
			all.OathTokens = append(all.OathTokens, made)
		}
		return c.print(all, func() { c.showTokens(all.GetOathTokens()) })
	})
	cmd.Long = cmd.Short + `.

Seeds are wrapped here under a key of the server's Vault, and unwrapped inside it: no service and no
database sees one. Delete the file afterwards.`
	fl := cmd.Flags()
	fl.StringVar(&f.passphrase, "passphrase-file", "", "file with the passphrase of the PSKC file")
	fl.StringVar(&f.key, "transport-key-file", "", "file with the pre-shared key of the PSKC file, hexadecimal")
	fl.StringVar(&f.serial, "serial", "", "serial of the one token whose seed the file holds, hexadecimal")
	fl.StringVar(&f.kind, "kind", "totp", "with --serial: totp or hotp")
	fl.StringVar(&f.algorithm, "algorithm", "sha1", "with --serial: sha1, sha256 or sha512")
	fl.IntVar(&f.digits, "digits", 6, "with --serial: 6 or 8")
	fl.IntVar(&f.period, "period", 30, "with --serial: seconds of a code of kind totp")
	fl.Int64Var(&f.counter, "counter", 0, "with --serial: counter of the next code of kind hotp")
	return cmd
}

func (c *cli) showTokens(list []*signv1.OathToken) {
	var rows [][]string
	for _, t := range list {
		state := "free"
		if t.GetOtpDevice() != "" {
			state = t.GetOtpDevice()
		}
		if t.GetRetireTime() != nil {
			state = "retired " + when(t.GetRetireTime())
		}
		rows = append(rows, []string{t.GetSerial(), last(t.GetName()), enum("OATH_KIND_", t.GetKind()), enum("OATH_ALGORITHM_", t.GetAlgorithm()), fmt.Sprint(t.GetDigits()), fmt.Sprint(t.GetDrift()), state})
	}
	c.table([]string{"SERIAL", "TOKEN", "KIND", "HASH", "DIGITS", "DRIFT", "DEVICE"}, rows)
}

func (c *cli) tokenList() *cobra.Command {
	return c.lister(verb("ls", "List the hardware tokens of a tenant", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*signv1.ListOathTokensResponse, error) {
			return api.ListOathTokens(ctx, &signv1.ListOathTokensRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.showTokens(page.GetOathTokens()) })
	}))
}

func (c *cli) tokenRetire() *cobra.Command {
	return verb("retire TOKEN", "End a hardware token for good: its seed is deleted", args("TOKEN"), func(ctx context.Context, given []string) error {
		name, err := c.within("oathTokens", given[0])
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		t, err := api.RetireOathToken(ctx, &signv1.RetireOathTokenRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(t, func() { c.showTokens([]*signv1.OathToken{t}) })
	})
}

func (c *cli) otpResync() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	return p.flags(verb("resync DEVICE", "Put a hardware token back in step, by two codes that it shows one right after the other", args("DEVICE"), func(ctx context.Context, given []string) error {
		name, err := p.device(given[0])
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		req := &signv1.ResynchronizeOtpDeviceRequest{Name: name}
		if req.Pin, err = p.pin(ctx, "PIN"); err != nil {
			return err
		}
		if req.FirstOtp, err = p.otp(ctx, "First code"); err != nil {
			return err
		}
		if req.SecondOtp, err = p.secrets.read(ctx, "Second code", "", ""); err != nil {
			return err
		}
		done, err := api.ResynchronizeOtpDevice(ctx, req)
		if err != nil {
			return err
		}
		return c.print(done, func() { c.showDevice(done) })
	}))
}

func (c *cli) otpContact() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var email, phone string
	cmd := p.flags(verb("contact", "Show where the holder is told of each use, or set it with --email, --phone", args(), func(ctx context.Context, _ []string) error {
		name, err := p.name()
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		var contact *signv1.HolderContact
		if email == "" && phone == "" {
			contact, err = api.GetHolderContact(ctx, &signv1.GetHolderContactRequest{Name: name})
		} else {
			req := &signv1.SetHolderContactRequest{Name: name, Email: email, Phone: phone}
			if req.Pin, req.Otp, err = p.both(ctx, " (an empty line without a device)"); err != nil {
				return err
			}
			contact, err = api.SetHolderContact(ctx, req)
		}
		if err != nil {
			return err
		}
		return c.print(contact, func() {
			c.fields("credential", contact.GetCredential(), "e-mail", contact.GetEmail(), "telephone", contact.GetPhone(), "set", when(contact.GetUpdateTime()))
		})
	}))
	cmd.Flags().StringVar(&email, "email", "", "address that gets notices")
	cmd.Flags().StringVar(&phone, "phone", "", "telephone number that gets notices, such as +393331234567")
	return cmd
}
