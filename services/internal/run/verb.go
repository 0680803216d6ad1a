package run

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// Verb is a command of one target beside serve: ceralaccad <target> <verb>. It runs once and ends, with the configuration of the
// file and whatever it opens itself: no bus, no server, no jobs.
type Verb struct {
	Name, Short, Long string
	Run               func(ctx context.Context, in Invocation) error
}

// Invocation is what a verb runs on.
type Invocation struct {
	File *File
	Out  io.Writer
	Log  *slog.Logger
	Now  func() time.Time

	process *process
	target  string
}

// Config decodes the target's section, as Host.Config does.
func (i Invocation) Config(dst any) error { return i.File.Section(i.target, dst) }

// DB opens the target's schema; the caller closes it.
func (i Invocation) DB(ctx context.Context) (*pg.DB, error) { return i.process.openDB(ctx, i.target) }

// verbCommands are the groups of targets that have verbs.
func (p *program) verbCommands() []*cobra.Command {
	var groups []*cobra.Command
	for _, t := range p.targets {
		if len(t.Verbs) == 0 {
			continue
		}
		group := &cobra.Command{Use: t.Name, Short: "Commands of " + t.Name + " that run once"}
		for _, v := range t.Verbs {
			group.AddCommand(&cobra.Command{
				Use: v.Name, Short: v.Short, Long: v.Long,
				RunE: func(cmd *cobra.Command, _ []string) error { return p.runVerb(cmd.Context(), t.Name, v) },
			})
		}
		groups = append(groups, group)
	}
	return groups
}

func (p *program) runVerb(ctx context.Context, target string, v Verb) error {
	file, err := p.load()
	if err != nil {
		return err
	}
	tel, err := telemetry.Setup(ctx, telemetry.Config{Service: "ceralaccad", Version: Version(), LogLevel: file.Log.Level, LogFormat: file.Log.Format, LogOutput: p.errOut})
	if err != nil {
		return err
	}
	proc, err := newProcess(ServeOptions{Config: file, Targets: p.targets})
	if err != nil {
		return err
	}
	proc.log = tel.Log
	err = v.Run(ctx, Invocation{File: file, Out: p.out, Log: tel.Log, Now: proc.now, process: proc, target: target})
	if err != nil {
		return file.place(target, err)
	}
	return tel.Shutdown(ctx)
}
