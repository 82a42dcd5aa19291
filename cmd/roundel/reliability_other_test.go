//go:build !unix

package main

func limitSelf() {}
