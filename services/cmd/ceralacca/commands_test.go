package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
)

// TestCommandsAreDocumented: COMMANDS.md has each command with its words, flags and defaults as the program has them, and
// the exit codes.
func TestCommandsAreDocumented(t *testing.T) {
	for _, name := range os.Environ() {
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "CERALACCA_") {
			t.Setenv(name, "") // they are defaults of flags
		}
	}
	c := &cli{now: time.Now}
	root := c.command()
	root.InitDefaultCompletionCmd("completion")
	var b strings.Builder
	b.WriteString("# Commands of ceralacca\n\nWritten by `go test ./cmd/ceralacca -run TestCommands -update` from the program. `ceralacca COMMAND --help` says more of each.\n\n" +
		exitHelp + "\n\nCommands that end in other ways say so in their help.\n\n## For all commands\n\n")
	b.WriteString(flagTable(t, "ceralacca", root.PersistentFlags()))
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(g.Title, ":"))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == g.ID {
				writeCommand(t, &b, cmd)
			}
		}
	}
	for _, cmd := range root.Commands() {
		require.True(t, cmd.GroupID != "" || cmd.Name() == "help" || cmd.Name() == "completion", "%s is in no group of the help", cmd.Name())
	}
	if *update {
		require.NoError(t, os.WriteFile("COMMANDS.md", []byte(b.String()), 0o644)) //nolint:gosec // a document
	}
	kept, err := os.ReadFile("COMMANDS.md")
	require.NoError(t, err)
	have := strings.Split(string(kept), "\n")
	for i, line := range strings.Split(b.String(), "\n") {
		require.Less(t, i, len(have), "COMMANDS.md is too short: %s", line)
		require.Equal(t, line, have[i], "line %d of COMMANDS.md: cd services && go test ./cmd/ceralacca -run TestCommands -update writes it", i+1)
	}
	require.Len(t, have, strings.Count(b.String(), "\n")+1)
}

func writeCommand(t *testing.T, b *strings.Builder, cmd *cobra.Command) {
	t.Helper()
	require.NotEmpty(t, cmd.Short, cmd.CommandPath())
	if cmd.HasSubCommands() {
		words := map[string]string{}
		for _, sub := range cmd.Commands() {
			for _, word := range slices.Concat(sub.Aliases, []string{sub.Name()}) {
				require.Empty(t, words[word], "%s %s is also %s", cmd.CommandPath(), word, sub.Name())
				words[word] = sub.Name()
			}
			writeCommand(t, b, sub)
		}
		return
	}
	words := strings.TrimSuffix(cmd.UseLine(), " [flags]")
	fmt.Fprintf(b, "\n### %s\n%s.", words, strings.TrimSuffix(cmd.Short, "."))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(b, " Also `%s`.", strings.Join(cmd.Aliases, "`, `"))
	}
	b.WriteString("\n")
	for paragraph := range strings.SplitSeq(cmd.Long, "\n\n") {
		if strings.Contains(strings.ToLower(paragraph), "exit code") {
			fmt.Fprintf(b, "%s\n", strings.Join(strings.Fields(paragraph), " "))
		}
	}
	own := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	add := func(f *pflag.Flag) {
		if cmd.Root().PersistentFlags().Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add) // of the group
	if table := flagTable(t, cmd.CommandPath(), own); table != "" {
		b.WriteString("\n" + table)
	}
}

// flagTable is empty where there are no flags. That of help is everywhere.
func flagTable(t *testing.T, path string, flags *pflag.FlagSet) string {
	t.Helper()
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		require.NotEmpty(t, f.Usage, "%s --%s", path, f.Name)
		name, usage := pflag.UnquoteUsage(f)
		if b.Len() == 0 {
			b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
		}
		flag := "`--" + strings.TrimSpace(f.Name+" "+name) + "`"
		if f.Shorthand != "" {
			flag = "`-" + f.Shorthand + "`, " + flag
		}
		standard := "`" + f.DefValue + "`"
		if slices.Contains([]string{"", "[]", "false", "0s"}, f.DefValue) {
			standard = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", flag, standard, strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(usage))
	})
	return b.String()
}

// TestHints: what this tool knows beside what the server says is shown with it.
func TestHints(t *testing.T) {
	noNumber := fault.Invalid("DRAFT_INVALID", "no invoice can be made of it").WithField("draft.document.number", "DRAFT_INVALID", "is missing")
	for want, err := range map[string]error{
		"--series SERIES gives the next number": wantsNumber(repeatError{noNumber, "r"}, true),
		"ceralacca company ls lists":            fault.NotFound("COMPANY_NOT_FOUND", "there is no company c"),
		"ceralacca series create makes one":     fault.NotFound("SERIES_NOT_FOUND", "there is no series s"),
		"ceralacca invoice ls lists them":       fault.NotFound("INVOICE_NOT_FOUND", "there is no invoice i"),
	} {
		var said bytes.Buffer
		c := &cli{errOut: &said, format: formatText}
		require.NotZero(t, c.fail(err))
		require.Contains(t, said.String(), want)
	}
	var said bytes.Buffer
	c := &cli{errOut: &said, format: formatText}
	require.Equal(t, exitRefused, c.fail(wantsNumber(noNumber, false)))
	require.NotContains(t, said.String(), "--series", "who gave a series knows it")
}
