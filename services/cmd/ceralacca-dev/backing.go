package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/sandbox"
)

// backingState is the line that backing prints once everything is up: all that a harness needs to run
// the platform's programs against these servers.
type backingState struct {
	Configs     map[string]string `json:"configs"` // process ("all" or a target) -> configuration file
	RPC         map[string]string `json:"rpc"`     // process -> gRPC address
	Admin       map[string]string `json:"admin"`   // process -> admin address
	CAFile      string            `json:"ca_file"` // of the gRPC certificates
	CertFiles   string            `json:"cert_files"`
	OperatorKey string            `json:"operator_key"`
	Database    string            `json:"database_url"` // as the superuser of the private cluster
	NATS        string            `json:"nats_url"`
	Vault       string            `json:"vault_addr"`
	VaultToken  string            `json:"vault_token"`
	SdI         sdiState          `json:"sdi"`
}

type sdiState struct {
	Control     string `json:"control_url"`
	TSA         string `json:"tsa_url"`
	SMTP        string `json:"smtp_addr"`
	CAFile      string `json:"ca_file"`
	Callback    string `json:"callback_url"`
	Transmitter string `json:"transmitter"`
}

func backingCommand() *cobra.Command {
	var dir, level string
	var fast, ecdsa bool
	cmd := &cobra.Command{
		Use:   "backing",
		Short: "Run only what surrounds the platform, for tests that start the platform's programs themselves",
		Long: `Runs PostgreSQL, Vault, nats-server and the sandbox, migrates the schemas, writes one configuration file for a
process that hosts all targets and one for each target alone, and prints one line of JSON.
Then it obeys lines on standard input and answers each with ok or with error and a reason:

  stop|kill|start|pause|resume postgres|vault|nats

It ends, and takes everything down, when standard input ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := stateDir(dir, "backing")
			if err != nil {
				return err
			}
			o := worldOptions{dir: state, database: "ceralacca_backing", fresh: true, nats: true, private: true, progress: os.Stderr}
			o.sandbox = sandbox.Config{ECDSAReceipts: ecdsa}
			w, err := newWorld(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer w.close()
			w.impatient = fast
			line, err := w.describe(level)
			if err != nil {
				return err
			}
			fmt.Println(line)
			return w.obey(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for the servers' files (default: .cache/backing of the checkout)")
	cmd.Flags().StringVar(&level, "log", "info", "log level written into the configuration files")
	cmd.Flags().BoolVar(&ecdsa, "ecdsa-receipts", false, "the sandbox signs receipts with P-256 instead of RSA-2048, which costs it a tenth")
	cmd.Flags().BoolVar(&fast, "impatient", false, "short pauses in the configuration files, for tests that break things")
	return cmd
}

// describe writes the configuration files and says where everything is.
func (w *world) describe(level string) (string, error) {
	processes := append([]string{"all"}, targetNames()...)
	err := w.choosePorts(processes...)
	if err != nil {
		return "", err
	}
	s := backingState{
		Configs: map[string]string{}, RPC: map[string]string{}, Admin: map[string]string{},
		CAFile: w.certs.CA, CertFiles: w.certs.Cert, OperatorKey: w.key,
		Database: w.postgres.URL(w.database), NATS: w.natsURL, Vault: w.vault.Addr, VaultToken: w.vault.Token,
		SdI: sdiState{Control: w.sdi.ControlURL, TSA: w.sdi.TSAURL, SMTP: w.sdi.SMTPAddr, CAFile: w.path("sdi", "ca.crt"),
			Callback: "https://" + w.ports["callback"] + "/trasmissione", Transmitter: transmitter},
	}
	for _, name := range processes {
		s.Configs[name] = w.path(name + ".yaml")
		s.RPC[name], s.Admin[name] = w.ports[portKey("rpc", name)], w.ports[portKey("admin", name)]
		err = os.WriteFile(s.Configs[name], []byte(w.config(name, level)), 0o600)
		if err != nil {
			return "", err
		}
	}
	line, err := json.Marshal(s)
	return string(line), err
}

// server is what can be broken on command.
type server interface {
	Stop() error
	Kill() error
	Restart(ctx context.Context) error
}

// halting servers have a Stop that is final: what can be started again is halted.
type halting interface {
	Halt() error
}

type pausable interface {
	Pause() error
	Resume() error
}

// obey answers one line for each line, until the input ends.
func (w *world) obey(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(in)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			answer := "ok"
			err := w.act(ctx, line)
			if err != nil {
				answer = "error " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
			fmt.Fprintln(out, answer)
		}
	}
}

func (w *world) act(ctx context.Context, line string) error {
	verb, name, _ := strings.Cut(strings.TrimSpace(line), " ")
	servers := map[string]server{"postgres": w.postgres, "vault": w.vault, "nats": w.nats}
	s, ok := servers[name]
	if !ok {
		return fmt.Errorf("%q names no server: postgres, vault or nats", name)
	}
	switch verb {
	case "stop":
		if h, ok := s.(halting); ok {
			return h.Halt()
		}
		return s.Stop()
	case "kill":
		return s.Kill()
	case "start":
		return s.Restart(ctx)
	case "pause", "resume":
		p, ok := s.(pausable)
		if !ok {
			return fmt.Errorf("%s cannot be paused", name)
		}
		if verb == "pause" {
			return p.Pause()
		}
		return p.Resume()
	}
	return fmt.Errorf("unknown act %q: stop, kill, start, pause or resume", verb)
}
