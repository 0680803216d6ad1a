package run

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/telemetry"
)

// Exit codes of the program.
const (
	exitFailed = 1 // something failed while running
	exitUsage  = 2 // wrong command line or configuration
)

// Main is the program: it parses the command line, runs it and exits. SIGINT
// and SIGTERM drain; a second one ends the process at once.
func Main(targets ...Target) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from here on a signal has its default effect again
	code := Execute(ctx, targets, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	os.Exit(code)
}

// program is one invocation.
type program struct {
	targets []Target
	environ []string
	out     io.Writer
	errOut  io.Writer
	config  string
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// Execute is Main without the process around it: it returns the exit code.
func Execute(ctx context.Context, targets []Target, args, environ []string, out, errOut io.Writer) int {
	p := &program{targets: targets, environ: environ, out: out, errOut: errOut}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errOut, "ceralaccad:", err)
	var usage usageError
	var wrong *configError
	if errors.As(err, &usage) || errors.As(err, &wrong) {
		return exitUsage
	}
	return exitFailed
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ceralaccad",
		Short: "Ceralacca's services: one program, each service a target",
		Long: "Ceralacca's services: one program, each service a target.\n\nTargets: " + strings.Join(p.names(), ", ") +
			"\nExit codes: 0 done, 1 failed while running, 2 wrong command line or configuration.",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVarP(&p.config, "config", "c", "ceralacca.yaml", "configuration file")
	root.AddCommand(p.serveCommand(), p.migrateCommand(), p.configCommand(), p.busCommand(), p.healthCommand(), p.versionCommand())
	root.AddCommand(p.verbCommands()...)
	refuseUnknown(root)
	return root
}

// refuseUnknown makes a command that does not exist, or an argument that no command takes, a mistake of the command
// line: cobra alone shows the help of a group for it and succeeds.
func refuseUnknown(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseUnknown(sub)
	}
	if !cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%q is one argument too many: %s takes flags only; see %[2]s --help", args[0], cmd.CommandPath())}
			}
			return nil
		}
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return usageError{fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant(args[0], names))}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

func (p *program) names() []string { return namesOf(p.targets) }

func namesOf(targets []Target) []string {
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.Name
	}
	return names
}

func (p *program) load() (*File, error) {
	file, err := LoadFile(p.config, p.names(), p.environ)
	if err != nil {
		return nil, usageError{err}
	}
	return file, nil
}

// pick reads --target: names separated by commas, or all.
func (p *program) pick(list string) ([]Target, error) {
	if list == "all" {
		return p.targets, nil
	}
	var picked []Target
	for _, name := range split(list) {
		i := slices.Index(p.names(), name)
		if i < 0 {
			return nil, usageError{fmt.Errorf("unknown target %q%s", name, meant(name, p.names()))}
		}
		picked = append(picked, p.targets[i])
	}
	if len(picked) == 0 {
		return nil, usageError{fmt.Errorf("--target names no target: use all, or some of %s", strings.Join(p.names(), ", "))}
	}
	return picked, nil
}

func (p *program) serveCommand() *cobra.Command {
	var list string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run targets until told to stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := p.pick(list)
			if err != nil {
				return err
			}
			file, err := openFile(p.config, p.names(), p.environ)
			if err != nil {
				return usageError{err}
			}
			if err := file.CheckServe(cmd.Context(), targets); err != nil {
				return usageError{err}
			}
			return Serve(cmd.Context(), ServeOptions{Config: file, Targets: targets, Version: Version(), LogOutput: p.errOut})
		},
	}
	cmd.Flags().StringVarP(&list, "target", "t", "all", "targets to run, separated by commas, or all")
	return cmd
}

func (p *program) migrateCommand() *cobra.Command {
	var list string
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring the schemas of targets up to date (database.admin_url)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := p.pick(list)
			if err != nil {
				return err
			}
			file, err := p.load()
			if err != nil {
				return err
			}
			if file.Database.AdminURL == "" {
				return usageError{file.locate("", BadField("database.admin_url", "is missing: migrations need a role that may create schemas"))}
			}
			proc, err := newProcess(ServeOptions{Config: file, Targets: targets})
			if err != nil {
				return err
			}
			tel, err := telemetry.Setup(cmd.Context(), telemetry.Config{
				Service: "ceralaccad", LogLevel: file.Log.Level, LogFormat: file.Log.Format, LogOutput: p.errOut})
			if err != nil {
				return err
			}
			proc.log = tel.Log
			for _, t := range targets {
				if t.Stateless {
					continue
				}
				begin := time.Now()
				if err := proc.migrate(cmd.Context(), t.Name); err != nil {
					return err
				}
				fmt.Fprintf(p.out, "%-14s schema is up to date (%s)\n", t.Name, time.Since(begin).Round(time.Millisecond))
			}
			return tel.Shutdown(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&list, "target", "t", "all", "targets to migrate, separated by commas, or all")
	return cmd
}

func (p *program) configCommand() *cobra.Command {
	var list string
	cmd := &cobra.Command{Use: "config", Short: "Check, show and explain the configuration"}
	cmd.PersistentFlags().StringVarP(&list, "target", "t", "all", "targets it is for, separated by commas, or all")
	cmd.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Say everything that is wrong with the configuration file",
			RunE: func(cmd *cobra.Command, _ []string) error {
				targets, err := p.pick(list)
				if err != nil {
					return err
				}
				file, err := openFile(p.config, p.names(), p.environ)
				if err != nil {
					return usageError{err}
				}
				if err := file.Check(cmd.Context(), targets); err != nil {
					return usageError{err}
				}
				fmt.Fprintf(p.out, "%s is good for %s\n", file.Path(), strings.Join(namesOf(targets), ", "))
				return nil
			},
		},
		&cobra.Command{
			Use: "show", Short: "Show the configuration in force: defaults, file, environment; secrets masked",
			RunE: func(cmd *cobra.Command, _ []string) error {
				targets, err := p.pick(list)
				if err != nil {
					return err
				}
				file, err := p.load()
				if err != nil {
					return err
				}
				if err := file.decodeAll(cmd.Context(), targets); err != nil {
					return usageError{err}
				}
				_, err = io.WriteString(p.out, file.Effective(""))
				return err
			},
		},
		&cobra.Command{
			Use: "docs", Short: "Explain every key, with its default",
			RunE: func(cmd *cobra.Command, _ []string) error {
				targets, err := p.pick(list)
				if err != nil {
					return err
				}
				text, err := Docs(cmd.Context(), targets)
				if err != nil {
					return err
				}
				_, err = io.WriteString(p.out, text)
				return err
			},
		},
	)
	return cmd
}

func (p *program) busCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bus", Short: "Manage the event bus"}
	cmd.AddCommand(&cobra.Command{
		Use: "apply", Short: "Create the streams of the catalogue on nats.url, or bring them up to date",
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := p.load()
			if err != nil {
				return err
			}
			if file.NATS.URL == "" {
				return usageError{file.locate("", BadField("nats.url", "is missing: an embedded server gets its streams when it starts"))}
			}
			if err := file.checkNATS(); err != nil {
				return usageError{err}
			}
			return p.applyStreams(cmd.Context(), file.NATS)
		},
	})
	return cmd
}

// streamReplicas is JetStream's code for more replicas than a server that stands alone has (JSStreamReplicasNotSupportedErr).
const streamReplicas = 10074

func (p *program) applyStreams(ctx context.Context, cfg NATSConfig) error {
	ctx, stop := context.WithCancelCause(ctx) // an answer that the server keeps from us never comes
	defer stop(nil)
	opts := append(cfg.identity(serviceName(nil)), nats.Name("ceralaccad bus apply"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				stop(fmt.Errorf("%w: only the user ceralaccad changes streams (deploy/nats): name its certificate in nats.cert_file", err))
			}
		}))
	conn, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return fmt.Errorf("NATS at %s cannot be reached: %w", serversOf(cfg.URL), natsTrouble(err))
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	err = bus.Apply(ctx, js, bus.ApplyConfig{Replicas: cfg.Replicas})
	var said *jetstream.APIError
	switch {
	case errors.As(err, &said) && said.ErrorCode == streamReplicas:
		return fmt.Errorf("nats.replicas is %d, and NATS at %s is one server: set 1, or make it a cluster: %w", cfg.Replicas, serversOf(cfg.URL), err)
	case err != nil && context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	for s := range js.ListStreams(ctx).Info() {
		fmt.Fprintf(p.out, "%-14s %d messages, %d replicas\n", s.Config.Name, s.State.Msgs, s.Config.Replicas)
	}
	return nil
}

func (p *program) healthCommand() *cobra.Command {
	var ready bool
	var target string
	cmd := &cobra.Command{
		Use: "healthcheck", Short: "Ask the admin port of a running process; exit code 0 when it is well",
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := p.load()
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready || target != "" {
				path = "/readyz?target=" + target
			}
			return p.probe(cmd.Context(), "http://"+loopback(file.Admin.Listen)+path)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask for readiness instead of being alive")
	cmd.Flags().StringVarP(&target, "target", "t", "", "readiness of one target")
	return cmd
}

func (p *program) probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("no process answers: nobody listens at %s, where admin.listen of %s says: is it running, with this configuration?", req.URL.Host, p.config)
		}
		return fmt.Errorf("no process answers: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(p.out, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.out, Version())
			return err
		},
	}
}

// Version is the module version and commit this program was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version, commit := info.Main.Version, ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			commit = s.Value[:12]
		}
	}
	return strings.TrimSpace(version + " " + commit)
}
