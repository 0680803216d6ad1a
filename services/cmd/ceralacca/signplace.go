package main

import (
	"bytes"
	"errors"
	"os"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/internal/fault"
)

// A p7m is put together here from the file and the signature beside it: the file needs not travel, and
// memory does not grow with it.

// hash is the SHA-256 that is to be signed: of the file, or of the content of a p7m that gets one more
// signature. One whose signatures do not hold is refused.
func (s signing) hash(name string) ([]byte, error) {
	if s.as != "add" {
		return hashFile(name)
	}
	p7m, err := openP7M(name)
	if err != nil {
		return nil, err
	}
	defer p7m.Close()
	report := cades.Judge(p7m.sd, cades.VerifyOptions{})
	if report.ReadError != nil {
		return nil, usage("%s: %v", name, report.ReadError)
	}
	for i := range report.Signers {
		if !report.Signers[i].Intact() {
			return nil, usage("%s: signature %d does not hold: nothing is added to it", name, i+1)
		}
	}
	return sha256Of(p7m.sd.Body())
}

// p7m is an attached one whose content stays in the file.
type p7m struct {
	*os.File
	sd *cms.SignedData
}

func openP7M(name string) (*p7m, error) {
	f, src, err := openFile(name)
	if err != nil {
		return nil, err
	}
	sd, err := readP7M(f, src)
	if err == nil && sd.Detached {
		err = errors.New("it is a signature without the document: sign the document again with --as p7s")
	}
	if err != nil {
		_ = f.Close() // it was read only
		return nil, usage("%s is no .p7m: %s", name, plain(err))
	}
	return &p7m{f, sd}, nil
}

// readP7M reads one in pieces, and one in Base64 whole.
func readP7M(f *os.File, src cms.Source) (*cms.SignedData, error) {
	first := make([]byte, 1)
	if n, _ := src.ReadAt(first, 0); n == 1 && first[0] != 0x30 && src.Size() <= largestFile {
		raw, err := readAll(f.Name(), f, largestFile)
		if err != nil {
			return nil, err
		}
		return cms.Parse(raw)
	}
	return cms.ParseStream(src, cms.Limits{})
}

func openFile(name string) (*os.File, cms.Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, usage("%v", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // the first error counts
		return nil, nil, usage("%v", err)
	}
	return f, fileSource{f, info.Size()}, nil
}

// fileSource is a file of a size.
type fileSource struct {
	*os.File
	size int64
}

// Size is that of cms.Source.
func (f fileSource) Size() int64 { return f.size }

// place writes what came back for a file: as it is, or put together with the file.
func (s signing) place(f toSign, of, signed []byte) error {
	if !bytes.Equal(of, f.hash) {
		return changedMeanwhile(f)
	}
	if s.uploads() || s.as == "p7s" {
		return f.write(of, signed)
	}
	beside, err := cms.Parse(signed)
	if err != nil {
		return fault.Internal("SIGNATURE_UNREADABLE", "the server's answer is no signature: %v", err)
	}
	if s.as == "add" {
		in, err := openP7M(f.file)
		if err != nil {
			return err
		}
		defer in.Close()
		joined, err := in.sd.Join(beside)
		if err != nil {
			return usage("%s: %v", f.file, err)
		}
		return f.assemble(joined, len(joined.Signers))
	}
	in, src, err := openFile(f.file)
	if err != nil {
		return err
	}
	defer in.Close()
	attached, err := beside.With(src)
	if err != nil {
		return fault.Internal("SIGNATURE_UNREADABLE", "%v", err)
	}
	return f.assemble(attached, len(attached.Signers))
}

func changedMeanwhile(f toSign) error {
	return fault.Conflict("DOCUMENT_CHANGED", "%s changed while it was being signed: its signature is not written", f.file)
}

// assemble writes a p7m beside its place, reads it back, and puts it there when every signature holds: a
// file that changed since it was shown does not.
func (f toSign) assemble(sd *cms.SignedData, signers int) error {
	var refused error // whose own words are for the user
	err := replace(f.output, shared, func(out *os.File) error {
		if err := sd.Write(out); err != nil {
			return err
		}
		refused = f.check(out, signers)
		return refused
	})
	switch {
	case refused != nil:
		return refused
	case err != nil:
		return usage("%v", err)
	}
	return nil
}

func (f toSign) check(out *os.File, signers int) error {
	info, err := out.Stat()
	if err != nil {
		return err
	}
	made, err := cms.ParseStream(fileSource{out, info.Size()}, cms.Limits{})
	if err != nil {
		return fault.Internal("SIGNATURE_UNREADABLE", "what was put together cannot be read: %v", err)
	}
	report := made.Verify(cms.VerifyOptions{})
	if report.ReadError != nil {
		return report.ReadError
	}
	for i := range report.Signers {
		if !report.Signers[i].Intact() {
			return changedMeanwhile(f)
		}
	}
	if len(report.Signers) != signers {
		return fault.Internal("SIGNATURE_UNREADABLE", "%d signatures were put together, and %d are in the file", signers, len(report.Signers))
	}
	return nil
}
