Feature: Cash
