package custody

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
)

// Members gives the files of a package's ZIP by their names, below the folder that all of them are in (empty: there is none that has all of
// them). Programs that unpack have to write what was verified here and nothing else, so names are such that every system takes each of them
// for itself: ASCII letters, digits, dot, hyphen and underscore, none twice where case does not count, and every entry is a file with a
// file's name or an empty folder with a folder's. Programs that read the archive as a stream find the same entries, and nothing lies between
// them. Errors: what is no readable ZIP, has other entries, or is another one from its beginning than from its end.
func Members(raw []byte) (folder string, members map[string]*zip.File, err error) {
	folder, members, all, err := open(raw)
	if err != nil {
		return "", nil, err
	}
	err = AsStream(raw, all)
	if err != nil {
		return "", nil, fmt.Errorf("custody: who reads the archive from its beginning finds something else in it: %w", err)
	}
	return folder, members, nil
}

// open is Members by the directory at the end of the archive alone, and gives all entries in its order.
func open(raw []byte) (folder string, members map[string]*zip.File, all []*zip.File, err error) {
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return "", nil, nil, fmt.Errorf("custody: no readable ZIP (%w): it is another kind of file, or was cut: fetch it again", err)
	}
	members = map[string]*zip.File{}
	spelled := map[string]bool{}
	for i, f := range archive.File {
		name, isFolder := strings.CutSuffix(f.Name, "/")
		switch mode := f.Mode(); {
		case !plainPath(name):
			return "", nil, nil, fmt.Errorf("custody: %.200q is no name of a file in a package", f.Name)
		case isFolder && f.UncompressedSize64 > 0, isFolder != mode.IsDir(), !isFolder && !mode.IsRegular():
			return "", nil, nil, fmt.Errorf("custody: %.200q is neither a file nor a folder", f.Name)
		case spelled[strings.ToLower(name)]:
			return "", nil, nil, fmt.Errorf("custody: the archive holds %.200q twice, or two names that differ in case alone", f.Name)
		}
		spelled[strings.ToLower(name)] = true
		first, _, below := strings.Cut(name, "/")
		if i == 0 {
			folder = first
		}
		if first != folder || (!below && !isFolder) {
			folder = ""
		}
		if !isFolder {
			members[name] = f
		}
	}
	if folder == "" {
		return "", members, archive.File, nil
	}
	short := make(map[string]*zip.File, len(members))
	for name, f := range members {
		short[strings.TrimPrefix(name, folder+"/")] = f
	}
	return folder, short, archive.File, nil
}

// plainPath says that no system reads a name as another one, or as a way out of the folder.
func plainPath(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasSuffix(part, ".") || strings.IndexFunc(part, foreignRune) >= 0 {
			return false
		}
	}
	return true
}

func foreignRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}
