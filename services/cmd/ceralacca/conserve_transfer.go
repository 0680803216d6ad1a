package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) transfer() (conservationv1.TransferServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return conservationv1.NewTransferServiceClient(conn), tenant, err
}

func (c *cli) exportArchiveCommand() *cobra.Command {
	var output, again string
	var wait time.Duration
	cmd := verb("export", "Write everything that the archive holds of a tenant to a folder: packages, proofs, reports, index", args(), func(ctx context.Context, _ []string) error {
		if output == "" {
			return usage("-o FOLDER is needed")
		}
		api, tenant, err := c.transfer()
		if err != nil {
			return err
		}
		e, err := c.exportOf(ctx, api, tenant, again, output)
		for until := c.now().Add(wait); err == nil && e.GetState() == conservationv1.ExportState_EXPORT_STATE_BUILDING && c.now().Before(until); {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
			e, err = api.GetExport(ctx, &conservationv1.GetExportRequest{Name: e.GetName()})
		}
		if err != nil {
			return err
		}
		if e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY {
			err = c.fetchExport(ctx, api, e, output)
		}
		if err != nil {
			return hintedError{err, "the same command goes on where it stopped"}
		}
		err = c.print(e, func() {
			c.fields("export", e.GetName(), "state", enum("EXPORT_STATE_", e.GetState()), "packages", e.GetPackageCount(), "units", e.GetUnitCount(), "files", e.GetFileCount(), "bytes", e.GetSize(), "last error", e.GetLastError(), "folder", output)
		})
		switch {
		case err != nil || e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY:
			return err
		case e.GetState() == conservationv1.ExportState_EXPORT_STATE_BUILDING:
			return fault.Unavailable("EXPORT_NOT_READY", "after %s it is not put together yet: the same command goes on waiting, --wait says for how long", wait)
		}
		return refused("the export failed and nothing was fetched: %s", e.GetLastError())
	})
	cmd.Long = cmd.Short + `.

When it breaks, the same command with the same folder goes on where it stopped: the folder remembers which export it is, and files
that are whole are not fetched again. ceralacca conserve verify FOLDER verifies all of it offline; what it needs is in it.`
	cmd.Flags().StringVarP(&output, "output", "o", "", "folder; it is made when it is not there")
	cmd.Flags().StringVar(&again, "export", "", "one that was made before, in place of the one that the folder remembers")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how long to wait until it is put together")
	return cmd
}

func (c *cli) exportsCommand() *cobra.Command {
	return verb("exports", "Exports that were put together, newest first: conserve export --export fetches one again", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.transfer()
		if err != nil {
			return err
		}
		list, err := api.ListExports(ctx, &conservationv1.ListExportsRequest{Parent: tenant})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, e := range list.GetExports() {
				rows = append(rows, []string{last(e.GetName()), enum("EXPORT_STATE_", e.GetState()), fmt.Sprint(e.GetPackageCount()), fmt.Sprint(e.GetUnitCount()), fmt.Sprint(e.GetFileCount()), fmt.Sprint(e.GetSize()), when(e.GetCreateTime()), e.GetLastError()})
			}
			c.table([]string{"EXPORT", "STATE", "PACKAGES", "DOCUMENTS", "FILES", "BYTES", "ASKED FOR", "LAST ERROR"}, rows)
		})
	})
}

// exportMark is the file in which a folder remembers its export.
const exportMark = ".export"

// exportOf is the export that is asked for, the one that the folder remembers, or a new one.
func (c *cli) exportOf(ctx context.Context, api conservationv1.TransferServiceClient, tenant, again, folder string) (*conservationv1.Export, error) {
	mark := filepath.Join(folder, exportMark)
	if again == "" {
		raw, err := os.ReadFile(mark)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, usage("--output: %v", err)
		}
		again = string(raw)
	}
	if again != "" {
		name, err := c.within("exports", again)
		if err != nil {
			return nil, err
		}
		return api.GetExport(ctx, &conservationv1.GetExportRequest{Name: name})
	}
	err := os.MkdirAll(folder, 0o755) //nolint:gosec // it is meant to be passed on
	if err != nil {
		return nil, usage("--output: %v", err)
	}
	e, err := api.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: tenant, RequestId: uuid.NewString()})
	if err == nil {
		err = keep(mark, []byte(e.GetName()))
	}
	return e, err
}

// fetchExport writes the files that are not there yet, from where they broke off.
func (c *cli) fetchExport(ctx context.Context, api conservationv1.TransferServiceClient, e *conservationv1.Export, folder string) error {
	for token := ""; ; {
		page, err := api.ListExportFiles(ctx, &conservationv1.ListExportFilesRequest{Name: e.GetName(), PageSize: 1000, PageToken: token})
		if err != nil {
			return err
		}
		for _, f := range page.GetFiles() {
			err = fetchFile(ctx, api, e.GetName(), f, folder)
			if err != nil {
				return fmt.Errorf("%s: %w", f.GetPath(), err)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return nil
		}
	}
}

func fetchFile(ctx context.Context, api conservationv1.TransferServiceClient, export string, f *conservationv1.ExportFile, folder string) error {
	local := filepath.FromSlash(f.GetPath())
	if !filepath.IsLocal(local) {
		return fault.Internal("ANSWER_MALFORMED", "the server names a path that leads out of the folder: %s", f.GetPath())
	}
	path := filepath.Join(folder, local)
	if sum, size, err := sumOf(path); err == nil && size == f.GetSize() && string(sum) == string(f.GetSha256()) {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // it is meant to be passed on
	if err != nil {
		return err
	}
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // it is meant to be passed on
	if err != nil {
		return err
	}
	defer file.Close()
	at, err := file.Seek(0, io.SeekEnd)
	if err == nil && at > f.GetSize() { // of something else
		at, err = 0, file.Truncate(0)
	}
	if err != nil {
		return err
	}
	stream, err := api.DownloadExportFile(ctx, &conservationv1.DownloadExportFileRequest{Name: export, Path: f.GetPath(), Offset: at})
	for err == nil {
		var m *conservationv1.DownloadExportFileResponse
		m, err = stream.Recv()
		if err == nil {
			_, err = file.WriteAt(m.GetChunk(), at)
			at += int64(len(m.GetChunk()))
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	sum, _, err := sumOf(part)
	switch {
	case err != nil:
		return err
	case string(sum) != string(f.GetSha256()):
		return errors.Join(errors.New("what was fetched does not have the digest that the export gives it: it is fetched anew the next time"), os.Remove(part))
	}
	return errors.Join(file.Close(), os.Rename(part, path))
}

func sumOf(path string) ([]byte, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return h.Sum(nil), n, err
}
