package pg

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"ceralacca.dev/services/internal/fault"
)

// CodePageToken is the code of the fault for a page token that is not ours or belongs to another query.
const CodePageToken = "PAGE_TOKEN_INVALID"

const pageTokenVersion = 1

// FilterHash condenses everything that defines a list (parent, filter, order) so that a token of
// one list is refused by another. spec: AIP-158 "page tokens and changed arguments"
func FilterHash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s;", len(p), p)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:9])
}

// EncodePageToken makes an opaque, URL-safe token: the position after which the next page begins,
// i.e. the sort keys of the last row shown. Positions are JSON values (strings, numbers, times).
// The token is no secret and no authority: row-level security decides what is seen.
func EncodePageToken(filterHash string, position ...any) (string, error) {
	body, err := json.Marshal(append([]any{filterHash}, position...))
	if err != nil {
		return "", fmt.Errorf("pg: page token: %w", err)
	}
	sum := crc32.ChecksumIEEE(body)
	raw := append([]byte{pageTokenVersion, byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, body...)
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// Page is one page of a list that was read with one row more than the page holds: the rows to show, at
// most size, and the token of the next page, empty on the last one. position gives a row's sort keys.
func Page[R any, N int | int32](rows []R, size N, filterHash string, position func(R) []any) ([]R, string, error) {
	if len(rows) <= int(size) {
		return rows, "", nil
	}
	token, err := EncodePageToken(filterHash, position(rows[size-1])...)
	return rows[:size], token, err
}

// DecodePageToken reads a token into pointers of the types that were encoded. An empty token is the
// first page: found is false and nothing is written. A token that is damaged or that belongs to
// another filter gives fault Invalid PAGE_TOKEN_INVALID on field page_token.
func DecodePageToken(token, filterHash string, position ...any) (found bool, err error) {
	if token == "" {
		return false, nil
	}
	refuse := func(why string) (bool, error) {
		return false, fault.Invalid(CodePageToken, "page_token %s: start again without it", why).
			WithField("page_token", CodePageToken, why)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 6 || raw[0] != pageTokenVersion {
		return refuse("is not one of ours")
	}
	body := raw[5:]
	sum := crc32.ChecksumIEEE(body)
	if !bytes.Equal(raw[1:5], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}) {
		return refuse("is damaged")
	}
	var parts []json.RawMessage
	err = json.Unmarshal(body, &parts)
	if err != nil || len(parts) != len(position)+1 {
		return refuse("is not one of this list")
	}
	var hash string
	err = json.Unmarshal(parts[0], &hash)
	if err != nil || hash != filterHash {
		return refuse("belongs to another filter or parent")
	}
	for i, dst := range position {
		err = json.Unmarshal(parts[i+1], dst)
		if err != nil {
			return refuse("is not one of this list")
		}
	}
	return true, nil
}
