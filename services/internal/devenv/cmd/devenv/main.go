// Command devenv is the set-up program of the Makefile and of the test processes:
// it prepares the machine, keeps the shared test database, and runs a command with
// the servers it needs around it. It is for development only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/devenv/vault"
)

const usage = `devenv: set-up of development and test machines

  devenv prepare             install the test peers, build the dev Vault and NATS server
  devenv with-postgres CMD   run CMD with a throw-away PostgreSQL for tests around it
  devenv keep-postgres DIR   keep a shared test server in DIR while tests use it
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devenv:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "prepare":
		return prepare(ctx)
	case len(args) > 1 && args[0] == "with-postgres":
		return withPostgres(ctx, args[1:])
	case len(args) == 2 && args[0] == "keep-postgres":
		return postgres.Keep(ctx, args[1], os.Stderr)
	default:
		fmt.Fprint(os.Stderr, usage)
		return errors.New("unknown command line")
	}
}

func prepare(ctx context.Context) error {
	root, err := devenv.Root()
	if err != nil {
		return err
	}
	err = devenv.RequirePeers(ctx, os.Stderr, devenv.Peers...)
	if err != nil {
		return err
	}
	_, _, err = devenv.Unpack(ctx, os.Stderr, root, devenv.SMTPSink)
	if err != nil {
		return err
	}
	_, err = nats.Build(ctx, os.Stderr, root)
	if err != nil {
		return err
	}
	_, err = vault.Build(ctx, os.Stderr, root)
	return err
}

// withPostgres runs a command between the start and the stop of a server, and
// passes on its exit status. Where the machine has room for it, the server's data and
// the command's temporary files are in memory, unless TMPDIR says where to.
func withPostgres(ctx context.Context, words []string) (err error) {
	if os.Getenv(postgres.SharedVariable) != "" {
		return command(ctx, words, nil)
	}
	root, err := devenv.Root()
	if err != nil {
		return err
	}
	dir, err := devenv.Cache(root, "pg-test")
	if err != nil {
		return err
	}
	var env []string
	if os.Getenv("TMPDIR") == "" {
		memory, err := devenv.InMemory()
		if err != nil {
			return err
		}
		if memory != nil {
			defer func() { err = errors.Join(err, memory.Remove()) }()
			dir = filepath.Join(memory.Dir, "pg")
			env = inMemory(memory.Dir)
		}
	}
	c, err := postgres.Start(ctx, postgres.Options{Dir: dir, Throwaway: true, Private: true, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	return command(ctx, words, append(env, postgres.SharedVariable+"="+c.URL("")))
}

// inMemory has temporary files written below dir, but not those of the go command: the programs that it links
// would fill the memory.
func inMemory(dir string) []string {
	env := []string{"TMPDIR=" + dir}
	if os.Getenv("GOTMPDIR") == "" {
		env = append(env, "GOTMPDIR="+os.TempDir())
	}
	return env
}

func command(ctx context.Context, words, env []string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	// Ctrl-C reaches the command through the terminal; SIGTERM only through us.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}
