package conservation

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// methods are all methods of the archive's API whose full name passes.
func methods(t testing.TB, pass func(name string) bool) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("ceralacca.conservation.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			list := file.Services().Get(i).Methods()
			for k := range list.Len() {
				if m := list.Get(k); pass(string(m.FullName())) {
					all = append(all, m)
				}
			}
		}
		return true
	})
	require.NotEmpty(t, all)
	return all
}

// call calls a method, with an empty request unless there is one, and gives how it ends.
func call(ctx context.Context, conn grpc.ClientConnInterface, m protoreflect.MethodDescriptor, request any) error {
	if request == nil {
		request = dynamicpb.NewMessage(m.Input())
	}
	path := "/" + strings.TrimSuffix(string(m.FullName()), "."+string(m.Name())) + "/" + string(m.Name())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, path, request, dynamicpb.NewMessage(m.Output()))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, path)
	if err != nil {
		return err
	}
	err = stream.SendMsg(request)
	if err == nil {
		err = stream.CloseSend()
	}
	for err == nil || errors.Is(err, io.EOF) { // of a send: the answer says why
		if err = stream.RecvMsg(dynamicpb.NewMessage(m.Output())); errors.Is(err, io.EOF) {
			return nil
		}
	}
	return err
}
