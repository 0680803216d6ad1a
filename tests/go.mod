module ceralacca.dev/tests

go 1.26.0

require (
	ceralacca.dev/migrations v0.0.0
	ceralacca.dev/proto v0.0.0
	ceralacca.dev/services v0.0.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.opentelemetry.io/proto/otlp v1.11.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace ceralacca.dev/proto => ../proto

replace ceralacca.dev/services => ../services

replace ceralacca.dev/migrations => ../migrations
