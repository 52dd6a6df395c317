"""nuScenes tables with one value gone or extreme, and files of bytes that no devkit wrote."""

from __future__ import annotations

import json

from fsmde_ros.sources.nuscenes import NuScenesDrives, sweeps

EXTREMES = (None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x" * 10**4, "../../etc/passwd", "/etc/passwd", [], {})


def test_nuscenes_tables(fuzzer, mutate, nuscenes_folder):
    folder = nuscenes_folder
    tables = {name: json.dumps(rows).encode() for name, rows in folder.tables.items()}

    def case(random):
        name = list(tables)[int(random.integers(len(tables)))]
        if random.random() < 0.25 or not folder.tables[name]:
            return name, mutate(tables[name], random)
        rows = json.loads(tables[name])
        row = rows[int(random.integers(len(rows)))]
        key = list(row)[int(random.integers(len(row)))]
        if random.random() < 0.2:
            del row[key]
        else:
            row[key] = EXTREMES[int(random.integers(len(EXTREMES)))]
        return name, json.dumps(rows).encode()

    def read(pair):
        for name, content in tables.items():
            (folder.root / folder.version / f"{name}.json").write_bytes(content)
        (folder.root / folder.version / f"{pair[0]}.json").write_bytes(pair[1])
        list(sweeps(folder.root))
        list(sweeps(folder.root, all_frames=True))

    read(("log", tables["log"]))
    fuzzer.run("nuScenes tables", read, case, share=0.002)


def test_nuscenes_files(fuzzer, mutate, nuscenes_folder):
    folder = nuscenes_folder
    drives = NuScenesDrives(folder.root)
    files = [folder.frame(channel, 0) for channel in ("CAM_FRONT", "LIDAR_TOP")]
    contents = [path.read_bytes() for path in files]

    def case(random):
        index = int(random.integers(2))
        return index, mutate(contents[index], random)

    def read(pair):
        for path, content in zip(files, contents, strict=True):
            path.write_bytes(content)
        files[pair[0]].write_bytes(pair[1])
        list(map(drives.sweep, drives.keyframes()))

    fuzzer.run("nuScenes files", read, case, share=0.002)
