package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

// uploader is one run of batch upload.
type uploader struct {
	*cli

	company, name, requestID, resume string
	kind                             invoicev1.BatchKind
	kindGiven                        bool

	stream invoicev1.BatchService_CreateInvoicesClient
	shown  time.Time
}

const uploadChunk = 512 << 10

// upload sends what the words mean, from where an earlier upload stopped.
func (u *uploader) upload(ctx context.Context, given []string) (*invoicev1.Batch, error) {
	archive, files, err := uploadSources(given)
	if err != nil {
		return nil, err
	}
	head, had, err := u.head(ctx)
	if err != nil {
		return nil, err
	}
	api, err := u.batches()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u.shown = u.now()
	u.progress("batch %s/batches/%s; should this break, go on with --resume %s", head.GetParent(), head.GetRequestId(), head.GetRequestId())
	u.stream, err = api.CreateInvoices(ctx)
	if err != nil {
		return nil, repeatError{err, head.GetRequestId()}
	}
	err = u.stream.Send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Head{Head: head}})
	if err == nil && archive != "" {
		err = u.sendArchive(archive, had.GetReceivedBytes())
	} else if err == nil {
		err = u.sendFiles(files, had.GetReceivedFiles())
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the server has answered already
		return nil, repeatError{err, head.GetRequestId()}
	}
	b, err := u.stream.CloseAndRecv()
	if err != nil {
		return nil, repeatError{err, head.GetRequestId()}
	}
	return b, nil
}

// head says which batch it is; had is what is there of it.
func (u *uploader) head(ctx context.Context) (head *invoicev1.BatchHead, had *invoicev1.Batch, err error) {
	switch {
	case u.resume != "" && u.requestID != "":
		return nil, nil, usage("--resume names the batch already: leave --request-id out")
	case u.resume != "":
		had, err = u.getBatch(ctx, u.resume)
		if err != nil {
			return nil, nil, err
		}
		if u.kindGiven && had.GetKind() != u.kind {
			return nil, nil, usage("batch %s is of kind %s: leave --check and --import as they were", last(had.GetName()), enum("BATCH_KIND_", had.GetKind()))
		}
		parent := filepath.ToSlash(filepath.Dir(filepath.Dir(had.GetName())))
		return &invoicev1.BatchHead{Parent: parent, Kind: had.GetKind(), DisplayName: had.GetDisplayName(), RequestId: last(had.GetName())}, had, nil
	case u.company == "":
		return nil, nil, usage("no company: give --company or set CERALACCA_COMPANY")
	case u.requestID == "":
		u.requestID = uuid.NewString()
	default:
		if _, err := uuid.Parse(u.requestID); err != nil {
			return nil, nil, usage("--request-id: %q is no UUID", u.requestID)
		}
	}
	parent, err := u.within("companies", u.company)
	return &invoicev1.BatchHead{Parent: parent, Kind: u.kind, DisplayName: u.name, RequestId: u.requestID}, nil, err
}

// uploadSources finds what the words mean: one archive, or files in a fixed order, so that a repeat has the
// same.
func uploadSources(given []string) (archive string, files []string, err error) {
	for _, name := range given {
		info, err := os.Stat(name)
		if err != nil {
			return "", nil, usage("%v", err)
		}
		if info.IsDir() {
			found, err := below(name)
			if err != nil {
				return "", nil, err
			}
			files = append(files, found...)
			continue
		}
		zip, err := beginsLikeZIP(name)
		switch {
		case err != nil:
			return "", nil, usage("%v", err)
		case zip && len(given) == 1:
			return name, nil, nil
		case zip:
			return "", nil, usage("%s is an archive: upload each archive by itself", name)
		}
		files = append(files, name)
	}
	if len(files) == 0 {
		return "", nil, usage("there is no file in %s", strings.Join(given, ", "))
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && info.Size() > largestFile {
			return "", nil, usage("%s is larger than %d MiB: that is no invoice", name, largestFile>>20)
		}
	}
	return "", files, nil
}

func below(root string) (files []string, err error) {
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, usage("%v", err)
	}
	return files, nil
}

func beginsLikeZIP(name string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head) // a file that is shorter is no archive
	return isZIP(head[:n]), nil
}

func (u *uploader) sendFiles(files []string, from int64) error {
	if from > int64(len(files)) {
		return usage("batch %s has %d files already, and here are %d: give the same files in the same order", last(u.resume), from, len(files))
	}
	for i := from; i < int64(len(files)); i++ {
		content, err := u.read(files[i])
		if err != nil {
			return err
		}
		err = u.stream.Send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_File{
			File: &invoicev1.BatchUpload{Index: i, FileName: uploadName(files[i]), Content: content}}})
		if err != nil {
			return err
		}
		u.tell("sent %d of %d files", i+1, len(files))
	}
	return nil
}

// uploadName is what a file is called in the batch: as it was given, without what leads out of its folder. A
// name that begins like one of the API's resources would be taken for one.
func uploadName(name string) string {
	name = filepath.ToSlash(filepath.Clean(name))
	if filepath.IsAbs(name) || !filepath.IsLocal(name) {
		return filepath.Base(name)
	}
	for _, collection := range []string{"tenants/", "resellers/", "operators/"} {
		if strings.HasPrefix(name, collection) {
			return "./" + name
		}
	}
	return name
}

func (u *uploader) sendArchive(name string, from int64) error {
	f, err := os.Open(name)
	if err != nil {
		return usage("%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return usage("%v", err)
	}
	if from > info.Size() {
		return usage("batch %s has %d bytes already, and %s has %d: give the same archive", last(u.resume), from, name, info.Size())
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return usage("%v", err)
	}
	chunk := make([]byte, uploadChunk)
	for at := from; ; {
		n, err := io.ReadFull(f, chunk)
		if n > 0 {
			sendErr := u.stream.Send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Chunk{
				Chunk: &invoicev1.ArchiveChunk{Offset: at, Content: chunk[:n]}}})
			if sendErr != nil {
				return sendErr
			}
			at += int64(n)
			u.tell("sent %d of %d MiB", at>>20, info.Size()>>20)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
}

func (u *uploader) tell(format string, a ...any) {
	if u.now().Sub(u.shown) > progressPause {
		u.shown = u.now()
		u.progress(format, a...)
	}
}
