module github.com/tapestry-net/tapestry/test/registry

go 1.26.6

tool github.com/google/go-containerregistry/cmd/registry

require github.com/google/go-containerregistry v0.22.1 // indirect
