package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) deviceAPI() (signv1.DeviceServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewDeviceServiceClient(conn), err
}

// appKey reads the key of an app that this tool plays.
func (c *cli) appKey(path string) (*ecdsa.PrivateKey, error) {
	raw, err := c.readFlag("--key", path, largestText)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, usage("--key: %s holds no PEM key; make one with ceralacca otp app key FILE", path)
	}
	read, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := read.(*ecdsa.PrivateKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, usage("--key: %s holds no ECDSA P-256 key (PKCS #8)", path)
	}
	return key, nil
}

func signedText(key *ecdsa.PrivateKey, text string) ([]byte, error) {
	sum := sha256.Sum256([]byte(text))
	return ecdsa.SignASN1(rand.Reader, key, sum[:])
}

func (c *cli) otpAppCommand() *cobra.Command {
	return group("app", "Play the app that approves: for trying out, and to see what a real one does", c.appMakeKey(), c.appWait(), c.appAnswer())
}

func (c *cli) appMakeKey() *cobra.Command {
	return verb("key FILE", "Make the key of an app, PEM; a real app keeps it where nothing can read it", args("FILE"), func(_ context.Context, given []string) error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		err = writeSecret(given[0], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if err != nil {
			return usage("%v", err)
		}
		return nil
	})
}

func (c *cli) showPush(p *signv1.PushRequest) {
	c.fields("request", p.GetName(), "state", enum("PUSH_STATE_", p.GetState()), "challenge", p.GetChallenge(), "documents", fmt.Sprint(p.GetSignatureCount()),
		"digest", hex.EncodeToString(p.GetDigest()), "until", when(p.GetExpireTime()))
}

func (c *cli) appWait() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var seconds int32
	cmd := verb("wait DEVICE", "Wait for a question to an app", args("DEVICE"), func(ctx context.Context, given []string) error {
		name, err := p.device(given[0])
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		got, err := api.WaitPushRequests(ctx, &signv1.WaitPushRequestsRequest{OtpDevice: name, WaitSeconds: seconds})
		if err != nil {
			return err
		}
		return c.print(got, func() {
			for _, q := range got.GetPushRequests() {
				c.showPush(q)
			}
		})
	})
	p.where(cmd)
	cmd.Flags().Int32Var(&seconds, "seconds", 8, "how long, at most 25; --timeout has to be longer")
	return cmd
}

func (c *cli) appAnswer() *cobra.Command {
	p := &personal{secrets: secrets{c: c}}
	var file string
	var refuse bool
	cmd := verb("answer REQUEST", "Answer a question: with the number that is shown where the signature was asked for, or --refuse", args("REQUEST"), func(ctx context.Context, given []string) error {
		if err := need("key", file); err != nil {
			return err
		}
		key, err := c.appKey(file)
		if err != nil {
			return err
		}
		api, err := c.deviceAPI()
		if err != nil {
			return err
		}
		q, err := api.GetPushRequest(ctx, &signv1.GetPushRequestRequest{Name: given[0]})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.errOut, "documents: %d, together %s..., until %s\n", q.GetSignatureCount(), hex.EncodeToString(q.GetDigest()[:8]), when(q.GetExpireTime()))
		req := &signv1.AnswerPushRequestRequest{Name: q.GetName(), Refuse: refuse}
		text := q.GetToSign() + "refuse"
		if !refuse {
			if req.Number, err = p.otp(ctx, "Number"); err != nil {
				return err
			}
			text = q.GetToSign() + "approve " + req.GetNumber()
		}
		if req.Signature, err = signedText(key, text); err != nil {
			return err
		}
		done, err := api.AnswerPushRequest(ctx, req)
		if err != nil {
			return err
		}
		return c.print(done, func() { c.showPush(done) })
	})
	cmd.Long = cmd.Short + ".\n\nThe number is asked for on the terminal, or is the line of standard input."
	cmd.Flags().StringVar(&file, "key", "", "file with the key of the app, PEM")
	cmd.Flags().BoolVar(&refuse, "refuse", false, "refuse what is asked")
	return cmd
}

// where are the flags that name a credential.
func (p *personal) where(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.credential, "credential", os.Getenv("CERALACCA_CREDENTIAL"), "credential of kind person (CERALACCA_CREDENTIAL)")
	cmd.Flags().StringVar(&p.company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
}

// shown asks for PIN and password, after what was sent: a number to be typed into an app, a message, or nothing.
func (p *personal) shown(ctx context.Context, sent *signv1.SendOtpResponse) (pin, otp string, err error) {
	if sent.GetPushRequest() == "" && sent.GetNumber() != "" { // of a provider, which waits for the app itself
		fmt.Fprintf(p.c.errOut, "number for the app: %s\n", printable(sent.GetNumber()))
		pin, err = p.pin(ctx, "PIN")
		return pin, "", err
	}
	if sent.GetPushRequest() == "" {
		if sent.GetAddress() != "" {
			fmt.Fprintf(p.c.errOut, "a password was sent to %s\n", sent.GetAddress())
		}
		return p.both(ctx, "")
	}
	fmt.Fprintf(p.c.errOut, "number for the app: %s (request %s, until %s)\n", sent.GetNumber(), sent.GetPushRequest(), when(sent.GetExpireTime()))
	pin, err = p.pin(ctx, "PIN")
	if err != nil {
		return "", "", err
	}
	err = p.approved(ctx, sent.GetPushRequest())
	return pin, sent.GetPushRequest()[strings.LastIndexByte(sent.GetPushRequest(), '/')+1:], err
}

// approved waits until an app has answered.
func (p *personal) approved(ctx context.Context, request string) error {
	api, err := p.c.deviceAPI()
	if err != nil {
		return err
	}
	for {
		q, err := api.GetPushRequest(ctx, &signv1.GetPushRequestRequest{Name: request})
		if err != nil {
			return err
		}
		switch q.GetState() {
		case signv1.PushState_PUSH_STATE_APPROVED:
			return nil
		case signv1.PushState_PUSH_STATE_PENDING:
		default:
			return fault.Denied("PUSH_NOT_APPROVED", "the app has not approved: %s", enum("PUSH_STATE_", q.GetState()))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// enrolmentProof is what an app shows to be confirmed. The text is of the device's name alone, as the enrolment
// gave it.
func (c *cli) enrolmentProof(device, file string) ([]byte, error) {
	key, err := c.appKey(file)
	if err != nil {
		return nil, err
	}
	return signedText(key, "ceralacca push enrolment v1\n"+device+"\n")
}
