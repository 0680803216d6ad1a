// Command ceralacca is the tool of partners and operators. Online it calls the gRPC API; offline it
// describes files. It owns no rule: what it knows comes from the API or from the format libraries.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/internal/fault"
)

// Exit codes, part of the contract with scripts.
const (
	exitOK          = 0
	exitRefused     = 1 // the request was understood and refused, or a check found errors
	exitUsage       = 2 // wrong arguments, or a file that cannot be read
	exitNotFound    = 3
	exitDenied      = 4 // no key, a wrong key, or a key that may not do this
	exitUnavailable = 5 // the server cannot be reached or asks to try again
	exitInternal    = 6 // the server failed; it names a trace to report
)

const exitHelp = `Exit codes:
  0  done
  1  refused: the request is wrong in itself, or a check found errors
  2  wrong arguments, or a file that cannot be read
  3  not found
  4  no key, a wrong key, or a key that may not do this
  5  the server cannot be reached, or asks to try again later
  6  the server failed; its message names the trace`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	c := &cli{in: in, out: out, errOut: errOut}
	root := c.command()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if c.conn != nil {
		_ = c.conn.Close()
	}
	if err == nil {
		return exitOK
	}
	return c.fail(err)
}

// usageError is a mistake in the words of the command.
type usageError struct{ error }

func usage(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// quietError ends with a code and has said already what there is to say.
type quietError int

func (quietError) Error() string { return "" }

// fail says what went wrong and how to mend it, and gives the exit code.
func (c *cli) fail(err error) int {
	var quiet quietError
	if errors.As(err, &quiet) {
		return int(quiet)
	}
	var words usageError
	var f *fault.Fault
	switch {
	case errors.As(err, &words):
		fmt.Fprintf(c.errOut, "ceralacca: %v\n", err)
		return exitUsage
	case errors.As(err, &f):
		c.printFault(f)
		return exitOf(f.Kind)
	case errors.Is(err, context.Canceled):
		return exitOK
	}
	fmt.Fprintf(c.errOut, "ceralacca: %v\n", err)
	return exitUsage
}

func exitOf(k fault.Kind) int {
	switch k {
	case fault.KindNotFound:
		return exitNotFound
	case fault.KindUnauthenticated, fault.KindDenied:
		return exitDenied
	case fault.KindUnavailable, fault.KindExhausted, fault.KindAborted:
		return exitUnavailable
	case fault.KindInternal:
		return exitInternal
	}
	return exitRefused
}

func (c *cli) printFault(f *fault.Fault) {
	if c.format == formatJSON {
		c.printJSON(map[string]any{"error": map[string]any{"code": f.Code, "kind": f.Kind.String(), "message": f.Message, "fields": f.Fields}})
		return
	}
	fmt.Fprintf(c.errOut, "ceralacca: %s: %s\n", f.Code, f.Message)
	for _, field := range f.Fields {
		fmt.Fprintf(c.errOut, "  %s: %s (%s)\n", field.Path, field.Message, field.Code)
	}
	if f.RetryAfter > 0 {
		fmt.Fprintf(c.errOut, "  try again in %s\n", f.RetryAfter)
	}
}

func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "ceralacca",
		Short:         "Invoices, signatures, SdI and conservation from the command line",
		Long:          "Invoices, signatures, SdI and conservation from the command line.\n\n" + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.server, "server", os.Getenv("CERALACCA_SERVER"), "gRPC address, host:port, or one for each service: invoice=host:port,sdi-gateway=host:port (CERALACCA_SERVER)")
	flags.StringVar(&c.caFile, "ca-file", os.Getenv("CERALACCA_CA_FILE"), "CA of the server's certificate, PEM; the system's when empty (CERALACCA_CA_FILE)")
	flags.StringVar(&c.keyFile, "key-file", os.Getenv("CERALACCA_API_KEY_FILE"), "file with the API key (CERALACCA_API_KEY_FILE); or the key itself in CERALACCA_API_KEY")
	flags.StringVar(&c.tenant, "tenant", os.Getenv("CERALACCA_TENANT"), "tenant, such as acme or tenants/acme (CERALACCA_TENANT)")
	flags.StringVar(&c.format, "format", formatText, "text or json")
	flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "of one call")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.check() }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(c.resellerCommand(), c.tenantCommand(), c.companyCommand(), c.keyCommand(), c.credentialCommand(),
		c.invoiceCommand(), c.traceCommand(), c.eventsCommand(), c.webhookCommand(), c.mailCommand(), c.deliveryCommand(),
		c.sdiCommand(), c.archiveCommand(), c.parkedCommand(), c.breakersCommand(), c.auditCommand(), c.configCommand(), c.inspectCommand())
	for _, group := range root.Commands() {
		refuseUnknown(group)
	}
	return root
}

// refuseUnknown makes a group without a verb, or with an unknown one, an error instead of a help page and success.
func refuseUnknown(cmd *cobra.Command) {
	if !cmd.HasSubCommands() {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage("unknown command %q for %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// args checks the number of arguments and names what is missing.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) < len(names) {
			return usage("%s: %s is missing; see %s --help", cmd.CommandPath(), names[len(given)], cmd.CommandPath())
		}
		if len(given) > len(names) {
			return usage("%s: %q is one argument too many", cmd.CommandPath(), given[len(names)])
		}
		return nil
	}
}
