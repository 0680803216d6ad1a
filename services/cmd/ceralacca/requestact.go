package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// viewed asks what is before a participant and shows it. Files, when they are given, must be exactly that.
func (c *cli) viewed(ctx context.Context, api signv1.SignatureRequestServiceClient, participant string, delegate bool, files []string) (*signv1.ViewSignatureRequestResponse, error) {
	v, err := api.ViewSignatureRequest(ctx, &signv1.ViewSignatureRequestRequest{Participant: participant, AsDelegate: delegate})
	if err != nil {
		return nil, err
	}
	var have []string
	for _, name := range files {
		hash, err := hashFile(name)
		if err != nil {
			return nil, err
		}
		have = append(have, hex.EncodeToString(hash))
	}
	for _, d := range v.GetDocuments() {
		if len(files) > 0 && !slices.Contains(have, hex.EncodeToString(d.GetSha256())) {
			return nil, fault.Conflict("DOCUMENT_CHANGED", "%s is none of the files that are given: view the request again", d.GetDisplayName())
		}
	}
	if len(files) > 0 && len(files) != len(v.GetDocuments()) {
		return nil, usage("%d files are given, and the request has %d documents", len(files), len(v.GetDocuments()))
	}
	for _, d := range v.GetDocuments() {
		fmt.Fprintf(c.errOut, "%d  SHA-256 %s  %s\n", d.GetPosition(), hex.EncodeToString(d.GetSha256()), printable(d.GetDisplayName()))
	}
	return v, nil
}

func digestsOf(v *signv1.ViewSignatureRequestResponse) [][]byte {
	var all [][]byte
	for _, d := range v.GetDocuments() {
		all = append(all, d.GetSha256())
	}
	return all
}

func (c *cli) requestView() *cobra.Command {
	var dir string
	var delegate bool
	cmd := verb("view PARTICIPANT", "Show what a participant is to approve or sign, and fetch the documents with --output-dir", args("PARTICIPANT"), func(ctx context.Context, given []string) error {
		name, err := c.participantName(given[0])
		if err != nil {
			return err
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		v, err := c.viewed(ctx, api, name, delegate, nil)
		if err != nil {
			return err
		}
		for _, d := range v.GetDocuments() {
			if dir == "" {
				break
			}
			if err := c.fetch(ctx, api, name, delegate, d, dir); err != nil {
				return err
			}
		}
		return c.print(v, func() { c.showRequest(v.GetSignatureRequest()) })
	})
	cmd.Flags().StringVar(&dir, "output-dir", "", "folder for the documents; nothing is overwritten")
	cmd.Flags().BoolVar(&delegate, "as-delegate", false, "the delegate views")
	return cmd
}

// fetch writes one document, as it was viewed.
func (c *cli) fetch(ctx context.Context, api signv1.SignatureRequestServiceClient, participant string, delegate bool, d *signv1.ViewedDocument, dir string) error {
	stream, err := api.DownloadRequestDocument(ctx, &signv1.DownloadRequestDocumentRequest{Participant: participant, Position: d.GetPosition(), AsDelegate: delegate})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, fmt.Sprintf("%02d-%s", d.GetPosition(), filepath.Base(d.GetDisplayName())))
	h := sha256.New()
	err = writeNew(path, h, func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
	if err == nil && string(h.Sum(nil)) != string(d.GetSha256()) {
		err = errors.Join(fault.Conflict("DOCUMENT_CHANGED", "%s changed while it was fetched: view the request again", d.GetDisplayName()), os.Remove(path))
	}
	if err == nil {
		fmt.Fprintf(c.errOut, "saved: %s\n", printable(path))
	}
	return err
}

// writeNew writes what next gives to a file that is not there yet; an unfinished one is removed.
func writeNew(path string, also io.Writer, next func() ([]byte, error)) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usage("%v", err)
	}
	out := io.MultiWriter(f, also)
	for {
		data, err := next()
		if errors.Is(err, io.EOF) {
			return f.Close()
		}
		if err == nil {
			_, err = out.Write(data)
		}
		if err != nil {
			return errors.Join(err, f.Close(), os.Remove(path))
		}
	}
}

func (c *cli) requestApprove() *cobra.Command {
	var delegate bool
	var linkFile string
	cmd := verb("approve PARTICIPANT [FILE...]", "Approve the documents of a request", args("PARTICIPANT", "[FILE...]"), func(ctx context.Context, given []string) error {
		name, err := c.participantName(given[0])
		if err != nil {
			return err
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		v, err := c.viewed(ctx, api, name, delegate, given[1:])
		if err != nil {
			return err
		}
		req := &signv1.ApproveSignatureRequestRequest{Participant: name, DocumentSha256: digestsOf(v), AsDelegate: delegate, RequestId: uuid.NewString()}
		if linkFile != "" {
			s := secrets{c: c}
			if req.LinkToken, err = s.read(ctx, "Code from the e-mail", "--link-file", linkFile); err != nil {
				return err
			}
		}
		done, err := tryAgain(ctx, c, func() (*signv1.SignatureRequest, error) { return api.ApproveSignatureRequest(ctx, req) })
		if err != nil {
			return err
		}
		return c.print(done, func() { c.showRequest(done) })
	})
	cmd.Long = cmd.Short + ".\n\nWhat is approved is what is viewed now; with FILEs, only when they are exactly the documents."
	cmd.Flags().BoolVar(&delegate, "as-delegate", false, "the delegate approves")
	cmd.Flags().StringVar(&linkFile, "link-file", "", "file with the code that was mailed (ceralacca request link)")
	return cmd
}

func (c *cli) requestSign() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	cmd := p.flags(verb("sign PARTICIPANT [FILE...]", "Sign the documents of a request, with PIN and one-time password", args("PARTICIPANT", "[FILE...]"), func(ctx context.Context, given []string) error {
		credential, err := p.name()
		if err != nil {
			return err
		}
		name, err := c.participantName(given[0])
		if err != nil {
			return err
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		v, err := c.viewed(ctx, api, name, false, given[1:])
		if err != nil {
			return err
		}
		return p.signRequest(ctx, credential, name, v)
	}))
	cmd.Long += "\n\nWhat is signed is what is viewed now; with FILEs, only when they are exactly the documents."
	return cmd
}

// signRequest goes from the view to the signature. From the authorization on it is written down: see inHand.
func (p *personal) signRequest(ctx context.Context, credential, participant string, v *signv1.ViewSignatureRequestResponse) error {
	authorizations, err := p.c.authorizations()
	if err != nil {
		return err
	}
	ch, err := authorizations.CreateChallenge(ctx, &signv1.CreateChallengeRequest{
		Parent: credential, DocumentSha256: digestsOf(v), Plan: &signv1.SigningPlan{What: &signv1.SigningPlan_Participant{Participant: participant}},
	})
	if err != nil {
		return err
	}
	if _, err := authorizations.SendOtp(ctx, &signv1.SendOtpRequest{Challenge: ch.GetName()}); err != nil {
		return err
	}
	pin, otp, err := p.both(ctx, "")
	if err != nil {
		return err
	}
	given, err := authorizations.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: pin, Otp: otp})
	if err != nil {
		return err
	}
	return p.c.finish(ctx, inHand{
		RequestID: uuid.NewString(), Until: p.c.now().Add(goesOnFor).UTC(), Credential: credential, Participant: participant,
		Challenge: ch.GetName(), Authorization: given.GetAuthorization(),
	}, nil, signing{})
}

func (c *cli) requestLink() *cobra.Command {
	var delegate bool
	cmd := verb("link PARTICIPANT", "Mail the code that an approval needs to the participant", args("PARTICIPANT"), func(ctx context.Context, given []string) error {
		name, err := c.participantName(given[0])
		if err != nil {
			return err
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		sent, err := api.SendRequestLink(ctx, &signv1.SendRequestLinkRequest{Participant: name, AsDelegate: delegate})
		if err != nil {
			return err
		}
		return c.print(sent, func() { c.fields("sent to", sent.GetAddress(), "until", when(sent.GetExpireTime())) })
	})
	cmd.Flags().BoolVar(&delegate, "as-delegate", false, "to the delegate")
	return cmd
}

func (c *cli) requestWatch() *cobra.Command {
	var after int64
	cmd := verb("watch REQUEST", "Show what happens to a request as it happens, until it is over", args("REQUEST"), func(ctx context.Context, given []string) error {
		name, err := c.within("signatureRequests", given[0])
		if err != nil {
			return err
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		for connected := false; ; connected = true {
			err := c.followRequest(ctx, api, name, &after)
			if err == nil || ctx.Err() != nil {
				return nil
			}
			if fault.Of(err).Kind != fault.KindUnavailable || !connected && after == 0 {
				return err
			}
			fmt.Fprintf(c.errOut, "ceralacca: %s; connecting again after event %d\n", c.describeError(err).Message, after)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	})
	cmd.Flags().Int64Var(&after, "after", 0, "begin after this event")
	return cmd
}

// followRequest shows a stream until it ends, and keeps how far it came.
func (c *cli) followRequest(ctx context.Context, api signv1.SignatureRequestServiceClient, name string, after *int64) error {
	stream, err := api.WatchSignatureRequest(ctx, &signv1.WatchSignatureRequestRequest{Name: name, AfterSequence: *after})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		*after = m.GetSequence()
		e := m.GetEvent()
		if e == nil {
			continue
		}
		err = c.printLine(m, func() {
			fmt.Fprintf(c.out, "%4d  %s  %-10s  %s  %s\n", e.GetSequence(), when(e.GetTime()), e.GetAction(), e.GetActor(), last(e.GetParticipant()))
		})
		if err != nil {
			return err
		}
	}
}

func (c *cli) requestBundle() *cobra.Command {
	var output string
	cmd := verb("bundle REQUEST", "Fetch the ZIP of a closed request: documents, signatures, sealed audit trail; ceralacca verify judges it", args("REQUEST"), func(ctx context.Context, given []string) error {
		name, err := c.within("signatureRequests", given[0])
		if err != nil {
			return err
		}
		if output == "" {
			output = last(name) + ".zip"
		}
		api, err := c.requests()
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = tryAgain(ctx, c, func() (bool, error) {
			h.Reset()
			stream, err := api.DownloadBundle(ctx, &signv1.DownloadBundleRequest{Name: name})
			if err != nil {
				return false, err
			}
			return true, writeNew(output, h, func() ([]byte, error) {
				m, err := stream.Recv()
				return m.GetData(), err
			})
		})
		if err != nil {
			return err
		}
		if c.format == formatJSON {
			printJSON(c.out, map[string]string{"file": output, "sha256": hex.EncodeToString(h.Sum(nil))})
			return nil
		}
		c.fields("file", printable(output), "SHA-256", hex.EncodeToString(h.Sum(nil)))
		return nil
	})
	cmd.Flags().StringVar(&output, "output", "", "file to write; REQUEST.zip when empty, nothing is overwritten")
	return cmd
}
