package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

// TestLimitEndsAList: a list is read page by page until there are as many rows as --limit says, also where a page tells of more than its
// rows, and says that there are more.
func TestLimitEndsAList(t *testing.T) {
	for limit, asked := range map[int]string{1: "1", 3: "3 1", 4: "4 2", 5: "5 3 1", 9: "9 7 5", 1000: "1000 998 996"} {
		c, sizes := &cli{limit: limit}, []string{}
		page, err := collect(c, func(token string, size int32) (*conservationv1.SearchDocumentsResponse, error) {
			sizes = append(sizes, fmt.Sprint(size))
			out := &conservationv1.SearchDocumentsResponse{NextPageToken: token + "x"}
			for range min(size, 2) {
				out.Documents = append(out.Documents, &conservationv1.FoundDocument{Unit: "u" + token})
			}
			if token == "" {
				out.Destroyed = []*conservationv1.DestroyedDocuments{{}}
			}
			if token == "xx" && size > 1 {
				out.NextPageToken = ""
			}
			return out, nil
		})
		require.NoError(t, err)
		require.Equal(t, asked, strings.Join(sizes, " "), "--limit %d", limit)
		require.Len(t, page.GetDocuments(), min(limit, 6))
		require.Equal(t, limit < 6, c.further)
		require.Len(t, page.GetDestroyed(), 1)
	}
}

// TestFirstListOfAPageAreItsRows: of every page of the API the first list holds messages, or there is no other.
func TestFirstListOfAPageAreItsRows(t *testing.T) {
	pages := 0
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			m := file.Messages().Get(i)
			if !strings.HasPrefix(string(m.FullName()), "ceralacca.") || m.Fields().ByName("next_page_token") == nil {
				continue
			}
			pages++
			var lists []protoreflect.FieldDescriptor
			for k := range m.Fields().Len() {
				if f := m.Fields().Get(k); f.IsList() {
					lists = append(lists, f)
				}
			}
			require.NotEmpty(t, lists, m.FullName())
			require.True(t, len(lists) == 1 || lists[0].Message() != nil, m.FullName())
		}
		return true
	})
	require.Greater(t, pages, 20)
}
