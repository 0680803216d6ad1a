// Command ceralacca-sandbox runs the simulators alone: SdI, time-stamp authority, mail sink,
// certified mail providers, providers of remote signatures and certification authority, with their control API. Nothing that
// it signs, stamps or accepts has any legal effect.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/pec"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run starts the sandbox, prints its endpoints as one line of JSON on out, and returns the
// exit code: 0 after a signal, 1 when it cannot start, 2 for a wrong command line.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var cfg sandbox.Config
	level := slog.LevelInfo
	fs := flag.NewFlagSet("ceralacca-sandbox", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&cfg.Dir, "dir", "", "directory that keeps the authority and the sequence of identifiers; empty keeps nothing")
	fs.StringVar(&cfg.ListenHost, "listen-host", "127.0.0.1", "address to listen on")
	fs.BoolVar(&cfg.AllowNonLoopback, "allow-non-loopback", false, "allow an address that other machines can reach")
	fs.IntVar(&cfg.SdIPort, "sdi-port", 0, "port of SdI (0: any free one)")
	fs.IntVar(&cfg.TSAPort, "tsa-port", 0, "port of the time-stamp authority (0: any free one)")
	fs.IntVar(&cfg.SMTPPort, "smtp-port", 0, "port of the mail sink (0: any free one)")
	fs.IntVar(&cfg.RemoteSignPort, "remote-sign-port", 0, "port of the providers of remote signatures (0: any free one)")
	cfg.PECPorts = map[string]int{}
	for _, f := range []struct{ flag, name, what string }{
		{"pec-smtps-port", pec.SMTPS, "certified mail, submission with TLS"},
		{"pec-submission-port", pec.Submission, "certified mail, submission with STARTTLS"},
		{"pec-imaps-port", pec.IMAPS, "certified mail, IMAP with TLS"},
		{"pec-pop3s-port", pec.POP3S, "certified mail, POP3 with TLS"},
		{"pec-mx-port", pec.MX, "certified mail, reception from others"},
	} {
		fs.Func(f.flag, "port of "+f.what+" (0: any free one)", func(v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			cfg.PECPorts[f.name] = int(n)
			return err
		})
	}
	fs.IntVar(&cfg.ControlPort, "control-port", 0, "port of the control API (0: any free one)")
	fs.Uint64Var(&cfg.Seed, "seed", 1, "seed of the choices that production leaves open")
	fs.IntVar(&cfg.Workers, "workers", 8, "receipts delivered in parallel")
	fs.IntVar(&cfg.KeepFiles, "keep-files", 2000, "files whose bytes are kept for inspection")
	fs.DurationVar(&cfg.ReceiptDelay, "receipt-delay", 0, "virtual time between reception and the first receipt")
	fs.BoolVar(&cfg.ECDSAReceipts, "ecdsa-receipts", false, "sign receipts with P-256 instead of RSA-2048")
	fs.BoolVar(&cfg.LaxSignatures, "lax-signatures", false, "do not judge who signed the files received")
	fs.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(errOut, "ceralacca-sandbox: unexpected argument %q; see --help\n", fs.Arg(0))
		return 2
	}
	cfg.Log = slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))
	srv, err := sandbox.Start(ctx, cfg)
	if err != nil {
		fmt.Fprintf(errOut, "ceralacca-sandbox: %v\n", err)
		return 1
	}
	err = json.NewEncoder(out).Encode(srv.Endpoints())
	if err != nil {
		srv.Close()
		fmt.Fprintf(errOut, "ceralacca-sandbox: print endpoints: %v\n", err)
		return 1
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	srv.Shutdown(end)
	return 0
}
