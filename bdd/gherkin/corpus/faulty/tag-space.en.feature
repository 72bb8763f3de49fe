@a b
Feature: x
