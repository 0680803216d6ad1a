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
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
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

LOGKEY is a verifier key, name+id+key, as ceralacca conserve log writes it. Give the key that init prints to the
log's operator (conservation.log.witnesses) and to everybody who checks receipts.
The folder is never restored from a backup: a witness that goes back signs two histories. Make a new one.
`

// run gives the exit code: 0, 1 when it cannot do what it should, 2 for a wrong command line.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	verbs := map[string]func(context.Context, *options, []string, io.Writer, io.Writer) error{
		"init": initialize, "trust": trust, "serve": serve, "show": show,
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		fmt.Fprint(errOut, usage)
		return 2
	}
	var o options
	fs := flag.NewFlagSet("ceralacca-witness "+args[0], flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Usage = func() { fmt.Fprint(errOut, usage) }
	fs.StringVar(&o.dir, "dir", "", "folder of the witness")
	fs.StringVar(&o.name, "name", "", "name of the witness, such as witness.example; never changed")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:7676", "address to listen on; port 0 takes a free one")
	fs.StringVar(&o.cert, "tls-cert", "", "certificate, PEM; without it plain HTTP, which suffices behind a proxy")
	fs.StringVar(&o.key, "tls-key", "", "its key, PEM")
	if fs.Parse(args[1:]) != nil {
		return 2
	}
	if o.dir == "" || (args[0] == "init" && o.name == "") || (args[0] == "trust") != (fs.NArg() > 0) || (o.cert == "") != (o.key == "") {
		fmt.Fprint(errOut, usage)
		return 2
	}
	err := verbs[args[0]](ctx, &o, fs.Args(), out, errOut)
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
		err = f.Trust(k)
		if err != nil {
			return err
		}
	}
	return nil
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
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
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
