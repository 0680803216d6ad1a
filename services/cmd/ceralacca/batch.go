package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) batches() (invoicev1.BatchServiceClient, error) {
	conn, err := c.dial()
	return invoicev1.NewBatchServiceClient(conn), err
}

// batchName completes the id of a batch; the company may be left out.
func (c *cli) batchName(name string) (string, error) { return c.within("companies/-/batches", name) }

func (c *cli) batchCommand() *cobra.Command {
	get := verb("get BATCH", "Show a batch and its progress", args("BATCH"), func(ctx context.Context, given []string) error {
		b, err := c.getBatch(ctx, given[0])
		if err != nil {
			return err
		}
		return c.print(b, func() { c.showBatch(b) })
	})
	cancel := verb("cancel BATCH", "Cancel what was not worked on yet; invoices that were created stay", args("BATCH"), func(ctx context.Context, given []string) error {
		name, err := c.batchName(given[0])
		if err != nil {
			return err
		}
		api, err := c.batches()
		if err != nil {
			return err
		}
		b, err := api.CancelBatch(ctx, &invoicev1.CancelBatchRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(b, func() { c.showBatch(b) })
	})
	wait := verb("wait BATCH", "Wait until each file has its outcome", args("BATCH"), func(ctx context.Context, given []string) error {
		return c.awaitBatch(ctx, given[0])
	})
	wait.Long = wait.Short + ".\n\n" + batchExit
	return group("batch", "Thousands of files at a time: upload, follow and cancel", c.uploadCommand(), get, c.listBatchesCommand(), c.batchFilesCommand(), cancel, wait)
}

const batchExit = "Exit code 0: every file was taken, but for those that are no invoices; 1: at least one was refused, is a duplicate or was cancelled, the upload cannot be used, or there was no invoice in it."

func (c *cli) getBatch(ctx context.Context, given string) (*invoicev1.Batch, error) {
	name, err := c.batchName(given)
	if err != nil {
		return nil, err
	}
	api, err := c.batches()
	if err != nil {
		return nil, err
	}
	return api.GetBatch(ctx, &invoicev1.GetBatchRequest{Name: name})
}

func (c *cli) showBatch(b *invoicev1.Batch) {
	c.fields("name", b.GetName(), "kind", enum("BATCH_KIND_", b.GetKind()), "display name", b.GetDisplayName(), "state", enum("BATCH_STATE_", b.GetState()),
		"failure", b.GetFailure(), "received files", b.GetReceivedFiles(), "received bytes", b.GetReceivedBytes(), "files", b.GetFiles(),
		"waiting", b.GetWaiting(), "created", b.GetCreated(), "refused", b.GetRefused(), "duplicates", b.GetDuplicates(),
		"cancelled", b.GetCancelled(), "ignored", b.GetIgnored(), "begun", when(b.GetCreateTime()), "updated", when(b.GetUpdateTime()))
}

func (c *cli) listBatchesCommand() *cobra.Command {
	var company string
	cmd := c.lister(verb("ls", "List batches, newest first", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		api, err := c.batches()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*invoicev1.ListBatchesResponse, error) {
			return api.ListBatches(ctx, &invoicev1.ListBatchesRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, b := range all.GetBatches() {
				rows = append(rows, []string{last(b.GetName()), enum("BATCH_KIND_", b.GetKind()), enum("BATCH_STATE_", b.GetState()), fmt.Sprint(b.GetFiles()),
					fmt.Sprint(b.GetWaiting()), fmt.Sprint(b.GetCreated()), fmt.Sprint(b.GetRefused()), fmt.Sprint(b.GetDuplicates()), when(b.GetCreateTime()), b.GetDisplayName()})
			}
			c.table([]string{"BATCH", "KIND", "STATE", "FILES", "WAITING", "CREATED", "REFUSED", "DUPLICATES", "BEGUN", "NAME"}, rows)
		})
	}))
	cmd.Flags().StringVar(&company, "company", "-", "only of this company")
	return cmd
}

var fileColumns = []string{"FILE", "STATE", "NAME", "INVOICE", "CODE", "MESSAGE"}

func fileRows(files []*invoicev1.BatchFile) [][]string {
	var rows [][]string
	for _, f := range files {
		rows = append(rows, []string{fmt.Sprint(f.GetIndex()), enum("BATCH_FILE_STATE_", f.GetState()), f.GetFileName(), last(f.GetInvoice()), f.GetCode(), f.GetMessage()})
	}
	return rows
}

func (c *cli) batchFilesCommand() *cobra.Command {
	var state string
	cmd := c.lister(verb("files BATCH", "List the files of a batch with the outcome of each", args("BATCH"), func(ctx context.Context, given []string) error {
		wanted, err := enumOf("state", "BATCH_FILE_STATE_", state, invoicev1.BatchFileState_value)
		if err != nil {
			return err
		}
		name, err := c.batchName(given[0])
		if err != nil {
			return err
		}
		api, err := c.batches()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*invoicev1.ListBatchFilesResponse, error) {
			return api.ListBatchFiles(ctx, &invoicev1.ListBatchFilesRequest{Parent: name, State: invoicev1.BatchFileState(wanted), PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			c.table(fileColumns, fileRows(all.GetFiles()))
		})
	}))
	cmd.Flags().StringVar(&state, "state", "", "only files in this state, for example refused")
	return cmd
}

// awaitBatch polls until the batch has ended, tells of the progress, and shows how it ended.
func (c *cli) awaitBatch(ctx context.Context, given string) error {
	pause, shown := 200*time.Millisecond, c.now()
	for {
		b, err := c.getBatch(ctx, given)
		if err != nil {
			return err
		}
		switch b.GetState() {
		case invoicev1.BatchState_BATCH_STATE_UPLOADING:
			return usage("batch %s is still being uploaded: end it with ceralacca batch upload --resume %s, or cancel it", b.GetName(), last(b.GetName()))
		case invoicev1.BatchState_BATCH_STATE_RUNNING:
		default:
			if err := c.print(b, func() { c.showBatch(b) }); err != nil {
				return err
			}
			if c.format == formatText {
				err = c.showNotTaken(ctx, b)
			}
			if err == nil && (b.GetState() != invoicev1.BatchState_BATCH_STATE_DONE || b.GetRefused()+b.GetDuplicates()+b.GetCancelled() > 0 || noInvoice(b)) {
				err = quietError(exitRefused)
			}
			return err
		}
		if c.now().Sub(shown) > progressPause {
			shown = c.now()
			c.progress("%d of %d files have their outcome", b.GetFiles()-b.GetWaiting(), b.GetFiles())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// notTakenShown is how many files that were not taken are shown after a batch: enough to see what is wrong.
const notTakenShown = 20

// noInvoice reports whether nothing of a batch is an invoice: who uploaded it meant something else.
func noInvoice(b *invoicev1.Batch) bool { return b.GetFiles() > 0 && b.GetIgnored() == b.GetFiles() }

// showNotTaken lists the files of a batch that were not taken, and why. Those that are no invoices are what an archive
// or a folder has beside them, and are counted only, unless there is nothing else.
func (c *cli) showNotTaken(ctx context.Context, b *invoicev1.Batch) error {
	states := []invoicev1.BatchFileState{invoicev1.BatchFileState_BATCH_FILE_STATE_REFUSED, invoicev1.BatchFileState_BATCH_FILE_STATE_DUPLICATE}
	total := b.GetRefused() + b.GetDuplicates()
	switch {
	case noInvoice(b):
		states, total = []invoicev1.BatchFileState{invoicev1.BatchFileState_BATCH_FILE_STATE_IGNORED}, b.GetIgnored()
	case b.GetIgnored() > 0:
		c.progress("%d of %d files are no invoices and were ignored; ceralacca batch files %s --state ignored says what they are", b.GetIgnored(), b.GetFiles(), last(b.GetName()))
	}
	if total == 0 {
		return nil
	}
	api, err := c.batches()
	if err != nil {
		return err
	}
	var rows [][]string
	for _, state := range states {
		list, err := api.ListBatchFiles(ctx, &invoicev1.ListBatchFilesRequest{Parent: b.GetName(), State: state, PageSize: notTakenShown})
		if err != nil {
			return err
		}
		rows = append(rows, fileRows(list.GetFiles())...)
	}
	rows = rows[:min(len(rows), notTakenShown)]
	c.table(fileColumns, rows)
	if int64(len(rows)) < total {
		c.progress("%d of %d are shown; ceralacca batch files %s lists all", len(rows), total, last(b.GetName()))
	}
	if noInvoice(b) {
		c.progress("there is no invoice in it and nothing was taken: invoices are XML or .p7m")
	}
	return nil
}

const progressPause = 2 * time.Second

// progress tells people how far it is; scripts read the result only.
func (c *cli) progress(format string, a ...any) {
	if c.format == formatText {
		fmt.Fprintf(c.errOut, format+"\n", a...)
	}
}

func (c *cli) uploadCommand() *cobra.Command {
	u := &uploader{cli: c}
	var check, imports, wait bool
	cmd := verb("upload FILE|DIR...|ZIP", "Upload files, folders, or one ZIP archive", args("FILE..."), func(ctx context.Context, given []string) error {
		u.kind = invoicev1.BatchKind_BATCH_KIND_CREATE
		switch {
		case check && imports:
			return usage("--check and --import exclude each other")
		case check:
			u.kind = invoicev1.BatchKind_BATCH_KIND_CHECK
		case imports:
			u.kind = invoicev1.BatchKind_BATCH_KIND_IMPORT
		}
		u.kindGiven = check || imports
		b, err := u.upload(ctx, given)
		if err != nil {
			return err
		}
		if wait {
			return c.awaitBatch(ctx, b.GetName())
		}
		err = c.print(b, func() { c.showBatch(b) })
		c.progress("whether its files are taken is not known yet: ceralacca batch wait %s waits for the outcomes", last(b.GetName()))
		return err
	})
	cmd.Long = cmd.Short + `.

Folders are taken with all that is below them, in the order of names. What was received is durable and worked on at
once; an upload that broke goes on with --resume and the id of the batch, with the same files. Without --wait the
command ends when all was received; ceralacca batch wait waits for the outcomes, ceralacca batch files lists them.

With --wait: ` + strings.ToLower(batchExit[:1]) + batchExit[1:]
	flags := cmd.Flags()
	flags.StringVar(&u.company, "company", os.Getenv("CERALACCA_COMPANY"), "company whose invoices they are (CERALACCA_COMPANY)")
	flags.BoolVar(&check, "check", false, "check only, store no invoice")
	flags.BoolVar(&imports, "import", false, "invoices issued elsewhere: preserve them, send nothing")
	flags.BoolVar(&wait, "wait", false, "wait until each file has its outcome")
	flags.StringVar(&u.name, "name", "", "a name for people")
	flags.StringVar(&u.requestID, "request-id", "", "UUID of this upload, which becomes the id of the batch; repeat it to repeat the upload safely")
	flags.StringVar(&u.resume, "resume", "", "id of the batch to go on with")
	return cmd
}
