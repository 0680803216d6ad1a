module ceralacca.dev/tests

go 1.26

require (
	ceralacca.dev/migrations v0.0.0
	ceralacca.dev/proto v0.0.0
	ceralacca.dev/services v0.0.0
)

replace ceralacca.dev/proto => ../proto

replace ceralacca.dev/services => ../services

replace ceralacca.dev/migrations => ../migrations
