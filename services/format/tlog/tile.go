package tlog

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	merkle "golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	// TileWidth is the number of hashes in a full tile and of entries in a full bundle.
	TileWidth = 1 << tileHeight
	// MaxEntry is the length of the longest entry in bytes: a bundle writes it in 16 bits.
	MaxEntry = 1<<16 - 1
	maxLevel = 63
	// EntryLevel is the level of entry bundles, which stand beside the tiles of level 0.
	EntryLevel = -1
)

// Tile names a resource of the log: Width consecutive hashes of level Level, from Index*256 on;
// at EntryLevel the entries themselves. Width 256 is a full tile. spec: C2SP-tiles §Merkle Tree
type Tile struct {
	Level int
	Index int64
	Width int
}

// Path is where the tile is served and stored, for example tile/1/x001/234.p/7.
func (t Tile) Path() string {
	var b strings.Builder
	b.WriteString("tile/")
	if t.Level == EntryLevel {
		b.WriteString("entries")
	} else {
		b.WriteString(strconv.Itoa(t.Level))
	}
	n := fmt.Sprintf("%03d", t.Index)
	for pad := (3 - len(n)%3) % 3; pad > 0; pad-- {
		n = "0" + n
	}
	for ; len(n) > 3; n = n[3:] {
		b.WriteString("/x" + n[:3])
	}
	b.WriteString("/" + n)
	if t.Width != TileWidth {
		b.WriteString(".p/" + strconv.Itoa(t.Width))
	}
	return b.String()
}

// ParsePath reads the path of a tile or bundle. It takes the one canonical form and no other.
func ParsePath(path string) (Tile, error) {
	bad := func(why string) (Tile, error) { return Tile{}, fmt.Errorf("tlog: path %.80q: %s", path, why) }
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return bad("it does not begin with tile/")
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return bad("the index is missing")
	}
	t := Tile{Width: TileWidth}
	if level == "entries" {
		t.Level = EntryLevel
	} else {
		l, err := strconv.ParseUint(level, 10, 8)
		if err != nil || l > maxLevel {
			return bad("the level is not a number from 0 to 63")
		}
		t.Level = int(l)
	}
	index, width, partial := strings.Cut(rest, ".p/")
	if partial {
		w, err := strconv.ParseUint(width, 10, 16)
		if err != nil || w < 1 || w >= TileWidth {
			return bad("the width of a partial tile is not a number from 1 to 255")
		}
		t.Width = int(w)
	}
	parts := strings.Split(index, "/")
	if len(parts) > 7 {
		return bad("the index is too great")
	}
	for i, p := range parts {
		digits := p
		if i < len(parts)-1 {
			digits = strings.TrimPrefix(p, "x")
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || len(digits) != 3 || t.Index > (1<<63-1-int64(n))/1000 {
			return bad("the index is not made of three-digit elements")
		}
		t.Index = t.Index*1000 + int64(n)
	}
	if t.Path() != path {
		return bad("it is not the canonical form, " + t.Path())
	}
	return t, nil
}

// tileAt is the tile of a level and an index in a tree of that size; ok is false when it is empty.
func tileAt(level int, index, size int64) (t Tile, ok bool) {
	count := size
	if level > 0 {
		count = size >> (tileHeight * level)
	}
	w := min(count-index*TileWidth, TileWidth)
	return Tile{Level: level, Index: index, Width: int(w)}, w > 0
}

// foldTile is the root of the subtree over the hashes of a full tile.
func foldTile(hashes []byte) Hash {
	if len(hashes) == HashSize {
		return Hash(hashes)
	}
	half := len(hashes) / 2
	return merkle.NodeHash(foldTile(hashes[:half]), foldTile(hashes[half:]))
}

// AppendEntry adds an entry to a bundle. Errors: an entry that is empty or longer than MaxEntry.
// spec: C2SP-tiles §Log entries
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) == 0 || len(entry) > MaxEntry {
		return nil, fmt.Errorf("tlog: entry of %d bytes, 1 to %d are admitted: put the digest of it in the log instead", len(entry), MaxEntry)
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...), nil
}

// ParseBundle splits a bundle that holds width entries. The entries share the bundle's memory.
func ParseBundle(bundle []byte, width int) ([][]byte, error) {
	if width < 1 || width > TileWidth {
		return nil, fmt.Errorf("tlog: bundle of %d entries, 1 to %d are admitted", width, TileWidth)
	}
	entries := make([][]byte, 0, width)
	for at := 0; at < len(bundle); {
		if len(entries) == width {
			return nil, fmt.Errorf("tlog: bundle: bytes after entry %d, at byte %d", width, at)
		}
		if len(bundle)-at < 2 {
			return nil, fmt.Errorf("tlog: bundle: the length of entry %d is cut off at byte %d", len(entries), at)
		}
		n := int(binary.BigEndian.Uint16(bundle[at:]))
		at += 2
		if n > len(bundle)-at {
			return nil, fmt.Errorf("tlog: bundle: entry %d says %d bytes and has %d, at byte %d", len(entries), n, len(bundle)-at, at)
		}
		entries = append(entries, bundle[at:at+n:at+n])
		at += n
	}
	if len(entries) != width {
		return nil, fmt.Errorf("tlog: bundle has %d entries, %d are expected", len(entries), width)
	}
	return entries, nil
}
