// Command ceralacca is the tool of partners and operators. Online it calls the gRPC API; offline it
// describes files and makes keys. It owns no rule: what it knows comes from the API or from the format
// libraries.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c := &cli{in: os.Stdin, out: os.Stdout, errOut: os.Stderr, now: time.Now}
	code := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run runs one command and gives the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.command()
	root.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	root.SetIn(c.in)
	root.SetErr(c.errOut)
	result := &sink{Writer: c.out}
	c.out = result
	root.SetOut(result)
	err := root.ExecuteContext(ctx)
	if c.conn != nil {
		_ = c.conn.Close()
	}
	var quiet quietError
	if result.err != nil && (err == nil || errors.As(err, &quiet)) {
		err = usage("the result is not whole: %v", result.err)
	}
	if err == nil {
		return exitOK
	}
	if wantsJSON(args) {
		c.format = formatJSON // also when the flags themselves could not be read
	}
	return c.fail(err)
}

// kinds says what the value of a flag is to be; texts take everything.
var kinds = map[string]string{
	"bool": "true or false", "duration": "time such as 90s, 10m or 2h",
	"int": "whole number", "int32": "whole number", "int64": "whole number", "uint32": "whole number", "float64": "number",
}

func wantsJSON(args []string) bool {
	at := slices.Index(args, "--format")
	return slices.Contains(args, "--format="+formatJSON) || at >= 0 && at+1 < len(args) && args[at+1] == formatJSON
}

func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "ceralacca",
		Short:         "Invoices, signatures, SdI and conservation from the command line",
		Long:          "Invoices, signatures, SdI and conservation from the command line.\n\n" + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&c.server, "server", os.Getenv("CERALACCA_SERVER"), "gRPC address, host:port, or one for each service: invoice=host:port,sdi-gateway=host:port (CERALACCA_SERVER)")
	flags.StringVar(&c.caFile, "ca-file", os.Getenv("CERALACCA_CA_FILE"), "CA of the server's certificate, PEM; the system's when empty (CERALACCA_CA_FILE)")
	flags.StringVar(&c.keyFile, "key-file", os.Getenv("CERALACCA_API_KEY_FILE"), "file with the API key (CERALACCA_API_KEY_FILE); or the key itself in CERALACCA_API_KEY")
	flags.StringVar(&c.tenant, "tenant", os.Getenv("CERALACCA_TENANT"), "tenant, such as acme or tenants/acme (CERALACCA_TENANT)")
	flags.StringVar(&c.format, "format", formatText, "text or json")
	flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "longest wait for the answer to one call")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.check() }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var wrong *pflag.InvalidValueError
		if errors.As(err, &wrong) {
			return usage("--%s: %q is no %s; see %s --help", wrong.GetFlag().Name, wrong.GetValue(), kinds[wrong.GetFlag().Value.Type()], cmd.CommandPath())
		}
		return usage("%v; see %s --help", err, cmd.CommandPath())
	})
	// A group is no command of its own: its usage line without a verb would be wrong.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.AddCommand(c.resellerCommand(), c.tenantCommand(), c.companyCommand(), c.keyCommand(), c.credentialCommand(), c.otpCommand(), c.signCommand(), c.resumeCommand(), c.requestCommand(), c.mandateCommand(), c.sealCommand(), c.stampCommand(),
		c.invoiceCommand(), c.traceCommand(), c.eventsCommand(), c.webhookCommand(), c.mailCommand(), c.deliveryCommand(),
		c.sdiCommand(), c.inboundCommand(), c.pecCommand(), c.archiveCommand(), c.conserveCommand(), c.parkedCommand(), c.breakersCommand(), c.auditCommand(), c.configCommand(),
		c.seriesCommand(), c.contactsCommand(), c.itemsCommand(), c.lookCommand(), c.renderOnline(),
		c.batchCommand(), c.exportCommand(), c.importCommand(), c.inspectCommand(), c.verifyCommand(), c.versionCommand())
	refuseUnknown(root)
	arrange(root)
	root.SetHelpCommand(helpCommand(root))
	return root
}

// refuseUnknown makes an unknown verb of a group an error instead of a help page and success.
func refuseUnknown(cmd *cobra.Command) {
	if !cmd.HasSubCommands() {
		return
	}
	for _, sub := range cmd.Commands() {
		refuseUnknown(sub)
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		cmd.SuggestionsMinimumDistance = min(2, max(1, len(args[0])/2)) // of three letters two that differ are another word
		meant := ""
		if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
			meant = " (did you mean " + strings.Join(close, " or ") + "?)"
		}
		return usage("unknown command %q for %q%s; see %s --help", args[0], cmd.CommandPath(), meant, cmd.CommandPath())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// arrange groups the commands in the help by who needs them.
func arrange(root *cobra.Command) {
	for _, g := range []struct{ title, names string }{
		{"Invoices and what becomes of them:", "invoice batch export import render series contacts items look trace events sdi inbound archive conserve"},
		{"Certified mail:", "pec"},
		{"How customers are told:", "webhook mail delivery"},
		{"Who uses the platform:", "reseller tenant company key credential"},
		{"Signing as a person:", "sign resume request otp"},
		{"Signing without one, and time stamps:", "seal mandate stamp"},
		{"For operators:", "parked breakers audit config"},
		{"Offline:", "inspect verify version"},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(strings.Fields(g.names), cmd.Name()) {
				cmd.GroupID = g.title
			}
		}
	}
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]", Short: "Help about a command", RunE: func(_ *cobra.Command, given []string) error {
		found, rest, err := root.Find(given)
		if err != nil || len(rest) > 0 {
			return usage("there is no command %q; see ceralacca --help", strings.Join(given, " "))
		}
		found.InitDefaultHelpFlag()
		return found.Help()
	}}
}

// args checks the number of arguments and names what is missing. A last name that ends in ... takes one or more, one in
// brackets may be left out.
func args(names ...string) cobra.PositionalArgs {
	needed := len(names)
	if needed > 0 && strings.HasPrefix(names[needed-1], "[") {
		needed--
	}
	return func(cmd *cobra.Command, given []string) error {
		if len(given) < needed {
			return usage("%s is missing: %s; see %s --help", strings.TrimSuffix(names[len(given)], "..."), cmd.UseLine(), cmd.CommandPath())
		}
		if len(given) > len(names) && (len(names) == 0 || !strings.HasSuffix(strings.TrimSuffix(names[len(names)-1], "]"), "...")) {
			return usage("%q is one argument too many: %s", given[len(names)], cmd.UseLine())
		}
		return nil
	}
}

func (c *cli) versionCommand() *cobra.Command {
	return verb("version", "Print the version of this tool", args(), func(context.Context, []string) error {
		if c.format == formatJSON {
			printJSON(c.out, map[string]string{"version": version()})
			return nil
		}
		_, err := fmt.Fprintln(c.out, version())
		return err
	})
}

// version is the module version and commit that this program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	return strings.TrimSpace(info.Main.Version + " " + commit + changed)
}
