package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// mostSigned is how many documents one authorization covers.
const mostSigned = 500

// toSign is one file and where its signature goes.
type toSign struct {
	file, output string
	hash         []byte
}

func (c *cli) signCommand() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var how signing
	cmd := p.flags(verb("sign FILE...", "Sign files as the person who holds a credential, with PIN and one-time password", args("FILE..."), func(ctx context.Context, given []string) error {
		if err := how.check(); err != nil {
			return err
		}
		files, err := prepare(given, how)
		if err != nil {
			return err
		}
		name, err := p.name()
		if err != nil {
			return err
		}
		if err = p.ready(); err != nil {
			return err
		}
		api, err := c.authorizations()
		if err != nil {
			return err
		}
		return p.sign(ctx, api, name, files, how)
	}))
	cmd.Long += "\n\nEach FILE gets FILE.p7s beside it: a detached CAdES-BES signature (openssl cms -verify -binary\n" +
		"-inform DER -content FILE -in FILE.p7s). Files stay where they are: only their SHA-256 goes to the server, whatever their size.\n" +
		"So it is with --as p7m (FILE.p7m, the file in it) and add (one more signature in a p7m, NAME.signed.p7m; what is\n" +
		"signed is the content): they are put together here, and read back.\n\n" +
		"With --as xml (NAME.signed.xml) and pdf (NAME.signed.pdf) the files go to the server and come back signed.\n" +
		"--timestamp adds a time stamp to each signature; --box makes that of a PDF visible. The signature is\n" +
		"advanced with a key in Vault, qualified with one at a provider that is; what it is stands before the PIN is asked for.\n" +
		"When the tool ends before all is written, ceralacca resume fetches the rest, without PIN and password."
	how.flags(cmd, "p7s")
	cmd.Flags().StringVar(&how.device, "device", "", "whose password it is to be: SMS, EMAIL, CALL, PUSH or APP, where a provider has the key; else the name of the device, which must be the active one")
	return cmd
}

// prepare reads the files once, before anybody is asked for a secret.
func prepare(names []string, how signing) ([]toSign, error) {
	if len(names) > mostSigned {
		return nil, usage("%d files: one authorization covers %d", len(names), mostSigned)
	}
	var files []toSign
	hashes, outputs := map[string]string{}, map[string]string{}
	for _, name := range names {
		if err := how.fits(name); err != nil {
			return nil, err
		}
		hash, err := how.hash(name)
		if err != nil {
			return nil, err
		}
		if same, twice := hashes[string(hash)]; twice {
			return nil, usage("%s and %s are the same bytes: name each document once", same, name)
		}
		output := how.output(name)
		if other, twice := outputs[output]; twice {
			return nil, usage("the signatures of %s and %s would both be %s", other, name, output)
		}
		if _, err := os.Stat(output); !errors.Is(err, fs.ErrNotExist) && !how.force {
			return nil, usage("%s is there already: --force writes over it", output)
		}
		if err := mayWriteBeside(output); err != nil {
			return nil, usage("%v", err)
		}
		hashes[string(hash)], outputs[output] = name, name
		files = append(files, toSign{file: name, output: output, hash: hash})
	}
	return files, nil
}

// fits looks at the beginning of a file: what cannot be signed so is found before a password is sent for it.
func (s signing) fits(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return usage("%v", err)
	}
	defer f.Close()
	first := make([]byte, 1024) // within them a reader of PDF looks for the mark
	n, err := io.ReadFull(f, first)
	switch first = first[:n]; {
	case errors.Is(err, io.EOF):
		return usage("%s is empty: there is nothing to sign", name)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return usage("%v", err)
	case s.as == "pdf" && !bytes.Contains(first, []byte("%PDF-")):
		return usage("%s is no PDF: --as p7s or p7m signs files of any kind", name)
	case s.as == "xml" && !bytes.Contains(first, []byte("<")):
		return usage("%s is no XML: --as p7s or p7m signs files of any kind", name)
	}
	return nil
}

// mayWriteBeside tries whether the folder of a file takes another one.
func mayWriteBeside(output string) error {
	f, err := os.CreateTemp(filepath.Dir(output), ".new-*")
	if err != nil {
		return inPlaceOf(tried(err), output, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// tried is the name that an error is about.
func tried(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Path
	}
	return ""
}

func hashFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("%v", err)
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	if err != nil {
		return nil, usage("%v", err)
	}
	return h.Sum(nil), nil
}

// sign goes the whole way: challenge, secrets, authorization, signatures, files.
func (p *personal) sign(ctx context.Context, api signv1.AuthorizationServiceClient, name string, files []toSign, how signing) error {
	c := p.c
	ch, err := how.challenge(ctx, api, name, files)
	if err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintf(c.errOut, "to sign: %s  SHA-256 %s...\n", printable(f.file), hex.EncodeToString(f.hash[:8]))
	}
	fmt.Fprintf(c.errOut, "documents: %d, together %s..., level %s, until %s\n", len(files), hex.EncodeToString(ch.GetDigest()[:8]), enum("SIGNATURE_LEVEL_", ch.GetLevel()), when(ch.GetExpireTime()))
	sent, err := api.SendOtp(ctx, &signv1.SendOtpRequest{Challenge: ch.GetName()})
	if err != nil {
		return err
	}
	pin, otp, err := p.shown(ctx, sent)
	if err != nil {
		return err
	}
	given, err := api.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: pin, Otp: otp})
	if err != nil {
		return err
	}
	h, err := c.handOf(files, how)
	if err != nil {
		return err
	}
	h.Credential, h.Challenge, h.Authorization = name, ch.GetName(), given.GetAuthorization()
	return c.finish(ctx, h, files, how)
}

// write writes a signature, of the file as it was when it was shown: one that changed meanwhile is
// refused, for the signature is not of what is there now.
func (f toSign) write(of, signed []byte) error {
	now, err := hashFile(f.file)
	if err != nil {
		return err
	}
	if string(now) != string(f.hash) || string(of) != string(f.hash) {
		return fault.Conflict("DOCUMENT_CHANGED", "%s changed while it was being signed: its signature is not written", f.file)
	}
	if err := replaceWith(f.output, shared, signed); err != nil {
		return usage("%v", err)
	}
	return nil
}
