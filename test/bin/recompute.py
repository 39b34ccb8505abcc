#!/usr/bin/env python3
"""Computes a whole export of opsflow.export_audit() again, from doc/audit.md and RFC 6962 alone.

Independent of opsflow-verify: another language, its standard library, the recursive definitions of the RFC. Fails if a
digest, a link, a sequence or the root does not fit, or an inclusion proof does not verify. Prints, for every leaf, its
number, its hash and its inclusion proof, then the size and the root of the tree.
"""
import base64
import hashlib
import json
import struct
import sys

HEADER_FIELDS = 20
ORGANIZATION, LANE, SEQ, PREV_HASH, PAYLOAD_DIGEST = 0, 1, 2, 18, 19


def sha256(data):
    return hashlib.sha256(data).digest()


def fields(data):
    assert data[0] == 1, 'encoding version'
    result, at = [], 1
    while at < len(data):
        present, at = data[at], at + 1
        if not present:
            result.append(None)
            continue
        (length,) = struct.unpack_from('>I', data, at)
        result.append(data[at + 4:at + 4 + length])
        at += 4 + length
    return result


def split(n):
    """The largest power of two below n."""
    return 1 << (n - 1).bit_length() - 1


class Tree:
    def __init__(self, leaves):
        self.leaves = leaves
        self.known = {}

    def root(self, first, end):
        """MTH(D[first:end])"""
        if first == end:
            return sha256(b'')
        if end - first == 1:
            return self.leaves[first]
        if (first, end) not in self.known:
            middle = first + split(end - first)
            self.known[first, end] = sha256(b'\1' + self.root(first, middle) + self.root(middle, end))
        return self.known[first, end]

    def path(self, leaf, first, end):
        """PATH(leaf, D[first:end])"""
        if end - first == 1:
            return []
        middle = first + split(end - first)
        if leaf < middle:
            return self.path(leaf, first, middle) + [self.root(middle, end)]
        return self.path(leaf, middle, end) + [self.root(first, middle)]


def root_from_path(leaf, size, hash_, path):
    """RFC 9162, 2.1.3.2"""
    number, last = leaf, size - 1
    for node in path:
        assert last > 0, 'proof too long'
        if number & 1 or number == last:
            hash_ = sha256(b'\1' + node + hash_)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            hash_ = sha256(b'\1' + hash_ + node)
        number, last = number >> 1, last >> 1
    assert last == 0, 'proof too short'
    return hash_


def read(file):
    lines = [json.loads(line) for line in file]
    first, end = lines[0], lines[-1]
    assert first['opsflow_audit_export'] == 1 and end['end'] is True
    leaves, lanes = [], {}
    for line in lines[1:-1]:
        header = base64.b64decode(line['header'], validate=True)
        field = fields(header)
        assert len(field) == HEADER_FIELDS
        if line['payload'] is not None:
            payload, salt = (base64.b64decode(line[key], validate=True) for key in ('payload', 'salt'))
            assert sha256(salt + payload) == field[PAYLOAD_DIGEST], f'payload of {line}'
        (seq,) = struct.unpack('>q', field[SEQ])
        before = lanes.get(field[LANE], (0, sha256(field[ORGANIZATION] + field[LANE])))
        assert before == (seq - 1, field[PREV_HASH]), f'place in the lane of {line}'
        hash_ = sha256(b'\0' + header)
        lanes[field[LANE]] = (seq, hash_)
        if 'leaf' in line:
            assert line['leaf'] == len(leaves)
            leaves.append(hash_)
    assert len(leaves) == first['tree_size']
    return leaves, end['checkpoint']


def main():
    with open(sys.argv[1], encoding='ascii') as file:
        leaves, checkpoint = read(file)
    size = len(leaves)
    tree = Tree(leaves)
    root = tree.root(0, size)
    assert checkpoint[1:] == [str(size), base64.b64encode(root).decode()], 'root'
    for leaf, hash_ in enumerate(leaves):
        path = tree.path(leaf, 0, size)
        assert root_from_path(leaf, size, hash_, path) == root, f'proof of leaf {leaf}'
        print(leaf, hash_.hex(), ','.join(node.hex() for node in path))
    print(size, root.hex())


main()
