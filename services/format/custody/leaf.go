package custody

import (
	"crypto/sha256"

	"ceralacca.dev/services/format/tlog"
)

// What a leaf can state, as its type.
const (
	Taken    = "unit.taken"     // a unit was taken in charge with these files
	Extended = "unit.extended"  // later receipts joined it before its package was closed
	Sealed   = "package.sealed" // a package was sealed with these bytes
	Reported = "report.kept"    // a signed report, of a check or a disposal, was kept
)

// folded is the note of a leaf whose unit has more files than a leaf has room for.
const folded = "folded"

// Folded says whether a leaf names its unit's files by one digest over all of theirs.
func Folded(l *tlog.Leaf) bool { return l.Note == folded }

// room for digests of files beside the one of the id.
const room = 255

// UnitObjects are the objects of a unit's leaf, and its note. The first is the digest of the unit's id, then
// come the SHA-256 of its files: the document, the receipts, the metadata file last. More than 255 files
// are one digest over all of theirs, in that order.
func UnitObjects(id string, files [][sha256.Size]byte) (objects []tlog.Hash, note string) {
	objects = append(objects, subject("unit", id))
	if len(files) > room {
		sum := sha256.New()
		for _, f := range files {
			sum.Write(f[:])
		}
		return append(objects, tlog.Hash(sum.Sum(nil))), folded
	}
	for _, f := range files {
		objects = append(objects, f)
	}
	return objects, ""
}

// PackageObjects are the objects of a package's leaf: the digests of its id, of the ZIP, of the signed index
// and of the time stamp's response.
func PackageObjects(id string, archive, signed, stamp [sha256.Size]byte) []tlog.Hash {
	return []tlog.Hash{subject("package", id), archive, signed, stamp}
}

// ReportObjects are the objects of a report's leaf: the digests of its id and of the signed file.
func ReportObjects(id string, signed [sha256.Size]byte) []tlog.Hash {
	return []tlog.Hash{subject("report", id), signed}
}

func subject(kind, id string) tlog.Hash {
	return sha256.Sum256([]byte("ceralacca " + kind + "\n" + id + "\n"))
}
