package sincro

import (
	"bytes"
	"io"
)

// ReadOne is Read for whoever looks for the file groups of one ID in an index as Write writes it: the other groups are passed
// over unread and unchecked. What is visited besides is to be ignored. An index in another form (another prefix, comments, CDATA,
// instructions) is read whole, and so is one that does not have the ID.
func ReadOne(index []byte, id string, visit func(FileGroup) error) (Index, error) {
	short, ok := excerpt(index, id)
	if !ok {
		return Read(bytes.NewReader(index), visit)
	}
	return Read(short, visit)
}

const (
	groupBegin = "<sincro:FileGroup>"
	groupEnd   = "</sincro:FileGroup>"
)

// excerpt gives the index without the groups that do not have the text. In XML without comments, CDATA, declarations and
// instructions a < begins a tag and nothing else, so that the groups are where their tags are. spec: XML10 §2.4
func excerpt(index []byte, id string) (io.Reader, bool) {
	if bytes.Contains(index, []byte("<!")) || bytes.Count(index, []byte("<?")) != 1 || !bytes.HasPrefix(index, []byte("<?xml ")) {
		return nil, false
	}
	from, to := bytes.Index(index, []byte(groupBegin)), bytes.LastIndex(index, []byte(groupEnd))
	if from < 0 || to < from {
		return nil, false
	}
	to += len(groupEnd)
	parts := []io.Reader{bytes.NewReader(index[:from])}
	for rest := index[from:to]; len(rest) > 0; {
		end := bytes.Index(rest, []byte(groupEnd))
		if end < 0 || !bytes.HasPrefix(rest, []byte(groupBegin)) || bytes.Contains(rest[len(groupBegin):end], []byte(groupBegin)) {
			return nil, false
		}
		end += len(groupEnd)
		if bytes.Contains(rest[:end], []byte(id)) {
			parts = append(parts, bytes.NewReader(rest[:end]))
		}
		rest = rest[end:]
	}
	if len(parts) == 1 {
		return nil, false
	}
	return io.MultiReader(append(parts, bytes.NewReader(index[to:]))...), true
}
