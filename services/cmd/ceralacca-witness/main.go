// Command ceralacca-witness watches a log of evidence for others: it cosigns each checkpoint that follows from
// the last one it saw, and none that does not. Tenants, accountants and partners run it where the log's
// operator does not reach.
//
//	ceralacca-witness init --dir D --name witness.example    makes a witness and prints its verifier key
//	ceralacca-witness trust --dir D LOGKEY...                begins to watch the log of a verifier key
//	ceralacca-witness serve --dir D --listen 127.0.0.1:7676  answers POST /add-checkpoint (C2SP tlog-witness)
//	ceralacca-witness show --dir D                           its key, its logs, and the sizes that it cosigned
//
// It holds no document, no name of a tenant, and needs no database.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"ceralacca.dev/services/format/tlog/witness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `usage: ceralacca-witness init  --dir DIR --name NAME
       ceralacca-witness trust --dir DIR LOGKEY...
       ceralacca-witness serve --dir DIR [--listen HOST:PORT] [--tls-cert FILE --tls-key FILE]
       ceralacca-witness show  --dir DIR

LOGKEY is a verifier key, name+id+key, or the file with it that ceralacca conserve log -o writes. Give the key that init prints to the
log's operator (conservation.log.witnesses) and to everybody who checks receipts.
The folder is never restored from a backup: a witness that goes back signs two histories. Make a new one.

  --dir        folder of the witness: its key, the logs that it watches, what it cosigned last
  --name       of init: its name, such as witness.example; never changed
  --listen     of serve: address, 127.0.0.1:7676 when not given; port 0 takes a free one
  --tls-cert   of serve: certificate, PEM; without it plain HTTP, which suffices behind a proxy
  --tls-key    its key, PEM

Exit codes: 0 done, 1 it cannot do what it should, 2 wrong command line.
`

// run gives the exit code: 0, 1 when it cannot do what it should, 2 for a wrong command line.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	verbs := map[string]func(context.Context, *options, []string, io.Writer, io.Writer) error{
		"init": initialize, "trust": trust, "serve": serve, "show": show,
	}
	wrong := func(format string, a ...any) int {
		fmt.Fprintf(errOut, "ceralacca-witness: "+format+"; see ceralacca-witness help\n", a...)
		return 2
	}
	switch {
	case len(args) == 0:
		fmt.Fprint(errOut, usage)
		return 2
	case slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]):
		fmt.Fprint(out, usage)
		return 0
	case verbs[args[0]] == nil:
		return wrong("unknown command %q: there are init, trust, serve and show", args[0])
	}
	var o options
	fs := flag.NewFlagSet("ceralacca-witness "+args[0], flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.dir, "dir", "", "folder of the witness")
	fs.StringVar(&o.name, "name", "", "name of the witness, such as witness.example; never changed")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:7676", "address to listen on; port 0 takes a free one")
	fs.StringVar(&o.cert, "tls-cert", "", "certificate, PEM; without it plain HTTP, which suffices behind a proxy")
	fs.StringVar(&o.key, "tls-key", "", "its key, PEM")
	err := fs.Parse(args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, usage)
		return 0
	case err != nil:
		return wrong("%v", err)
	case o.dir == "":
		return wrong("--dir is missing: the folder of the witness")
	case args[0] == "init" && o.name == "":
		return wrong("--name is missing: the name of the witness, such as witness.example")
	case args[0] == "trust" && fs.NArg() == 0:
		return wrong("LOGKEY is missing: the verifier key of the log, name+id+key, or the file that ceralacca conserve log -o writes")
	case args[0] != "trust" && fs.NArg() > 0:
		return wrong("%q is one argument too many: %s takes flags only", fs.Arg(0), args[0])
	case (o.cert == "") != (o.key == ""):
		return wrong("--tls-cert and --tls-key belong together: give both or neither")
	}
	err = verbs[args[0]](ctx, &o, fs.Args(), out, errOut)
	if err != nil {
		fmt.Fprintf(errOut, "ceralacca-witness: %v\n", err)
		return 1
	}
	return 0
}

type options struct{ dir, name, listen, cert, key string }

func initialize(_ context.Context, o *options, _ []string, out, _ io.Writer) error {
	key, err := witness.Create(o.dir, o.name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, key)
	return err
}

func trust(_ context.Context, o *options, keys []string, _, _ io.Writer) (err error) {
	f, err := witness.Open(o.dir, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, k := range keys {
		k, err = logKey(k)
		if err != nil {
			return err
		}
		err = f.Trust(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// logKey is a verifier key that is given, or the first line of the file that is: the log's own stands before those of its witnesses.
func logKey(given string) (string, error) {
	raw, err := os.ReadFile(given)
	if err != nil && strings.Contains(given, "+") {
		return given, nil // what is wrong with it is said by who takes it
	}
	if err != nil {
		return "", fmt.Errorf("%q is neither a verifier key, name+id+key, nor a file with one: %w", given, err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	return strings.TrimSpace(line), nil
}

func show(_ context.Context, o *options, _ []string, out, _ io.Writer) (err error) {
	f, err := witness.Open(o.dir, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fmt.Fprintln(out, f.Key())
	for _, l := range f.Logs() {
		fmt.Fprintf(out, "%d %s\n", l.Size, l.Origin)
	}
	return nil
}

func serve(ctx context.Context, o *options, _ []string, out, errOut io.Writer) (err error) {
	f, err := witness.Open(o.dir, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	log := slog.New(slog.NewTextHandler(errOut, nil))
	if o.cert != "" {
		_, err = tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("--tls-cert with --tls-key: %w", err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen %s, which is to be host:port: %w", o.listen, err)
	}
	server := &http.Server{
		Handler: witness.Handler(f, log), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() {
		if o.cert != "" {
			done <- server.ServeTLS(listener, o.cert, o.key)
			return
		}
		done <- server.Serve(listener)
	}()
	fmt.Fprintln(out, listener.Addr())
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(end)
}
