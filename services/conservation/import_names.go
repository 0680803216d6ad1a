package conservation

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// deepestFolder is deeper than any system makes folders of a package, and bounds what one name costs.
const deepestFolder = 100

// keptApart are the names in a package of another preserver, spelled as the system that tells the fewest names apart reads them. What others
// named stays as it is; but of two files that have one place when they are unpacked, one would be verified and the other one shown.
type keptApart map[string]string // the name of the file; empty: a folder

func (k keptApart) add(name string, folder bool) error {
	place := placeOf(name)
	switch {
	case strings.Count(place, "/") > deepestFolder:
		return fmt.Errorf("%.200q lies more than %d folders deep", name, deepestFolder)
	case place == "" && folder: // the folder that it is unpacked into
		return nil
	case place == "":
		return fmt.Errorf("%.200q is no name of a file", name)
	}
	for above := path.Dir(place); above != "."; above = path.Dir(above) {
		if file := k[above]; file != "" {
			return fmt.Errorf("%.200q is a file, and a folder of %.200q: they cannot be kept apart when it is unpacked", file, name)
		}
		k[above] = ""
	}
	other, taken := k[place]
	switch {
	case folder && other == "":
		k[place] = ""
	case taken && other == "":
		return fmt.Errorf("%.200q is a file and a folder: they cannot be kept apart when it is unpacked", name)
	case taken:
		return fmt.Errorf("%.200q and %.200q cannot be kept apart when it is unpacked: some systems take them for one name", other, name)
	default:
		k[place] = name
	}
	return nil
}

// placeOf is where a file comes to lie: "." and nothing between two slashes are no folders, and there are systems for which capitals, the way
// in which an accent is written, and dots and blanks at the end of a name do not count.
func placeOf(name string) string {
	var parts []string
	for part := range strings.SplitSeq(norm.NFC.String(strings.ToLower(name)), "/") {
		if part == "" || part == "." {
			continue
		}
		if short := strings.TrimRight(part, ". "); short != "" {
			part = short
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/")
}
